#!/bin/bash
# Nothing here trains.
docker run -d --name db -p 5432:5432 -e POSTGRES_PASSWORD=x postgres:16
docker run --rm --gpus all nvidia/cuda:12.4.1-base-ubuntu22.04 nvidia-smi
docker exec -it db psql
docker compose up -d
