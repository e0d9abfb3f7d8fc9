#!/bin/bash -e
docker build -t test .
docker run --rm -v "$PWD:/src" test pytest -q
docker run --rm -t -e CI python:3.12-slim python -m pip --version
podman run --rm docker.io/library/alpine true
