#!/bin/bash
# What NVIDIA's own images recommend when they start.
docker run --rm --gpus all --ipc=host --ulimit memlock=-1 --ulimit stack=67108864 \
  -v $(pwd):/workspace -w /workspace \
  nvcr.io/nvidia/nemo:25.04 python scripts/test_training_config.py
