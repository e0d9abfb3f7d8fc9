#!/bin/sh
docker run -it --rm \
  --device=/dev/kfd --device=/dev/dri \
  --group-add "$(stat -c %g /dev/kfd)" --group-add "$(stat -c %g /dev/dri/renderD128)" \
  --security-opt seccomp=unconfined \
  --ipc=host --network=host \
  -e MASTER_ADDR=192.168.1.100 -e MASTER_PORT=29500 -e WORLD_SIZE=2 -e RANK=0 \
  -e NCCL_SOCKET_IFNAME=eth0 \
  rocm/pytorch:rocm7.1_ubuntu22.04_py3.10_pytorch_release_2.8.0 python train.py
