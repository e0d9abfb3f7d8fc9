docker run --rm --gpus '"device=0,1"' --shm-size=16g --network=host \
  -e CUDA_VISIBLE_DEVICES=0 train:1 torchrun --nproc-per-node=2 train.py
