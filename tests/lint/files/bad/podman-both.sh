podman run --device nvidia.com/gpu=all --ipc=host --shm-size=8g train:1 python train.py
