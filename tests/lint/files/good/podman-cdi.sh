podman run --rm --device nvidia.com/gpu=all --security-opt=label=disable \
    --shm-size=16g --pids-limit=-1 \
    docker.io/pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime python train.py
