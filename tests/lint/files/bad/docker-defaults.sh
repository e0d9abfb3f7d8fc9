docker run --rm --gpus 4 pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime \
  torchrun --nproc-per-node=4 train.py
