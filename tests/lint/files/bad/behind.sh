# as people add it to a line that they have
docker run --rm --gpus all pytorch/pytorch:2.5.1-cuda12.4-cudnn9-devel \
  --shm-size=8g --ipc=private \
  python train.py
