#!/bin/bash
set -euo pipefail

IMAGE=${IMAGE:-registry.example.org/train:1.4}
docker pull "$IMAGE"
docker run --rm --init \
  --gpus all \
  --shm-size=32g \
  --ulimit memlock=-1 \
  --network host \
  -e NCCL_SOCKET_IFNAME=eth0 \
  -e WANDB_API_KEY \
  -v /data:/data:ro \
  "$IMAGE" \
  torchrun --nproc-per-node=8 train.py --config configs/base.yaml
