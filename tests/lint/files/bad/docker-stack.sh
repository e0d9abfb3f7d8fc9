docker run --gpus all --shm-size=32g --ulimit stack=-1 --ulimit nofile=1024 train:1 \
  torchrun --nproc-per-node=8 train.py
