#!/usr/bin/env bash
set -e
cd "$(dirname "$0")"
export OMP_NUM_THREADS=8
NUM_GPUS=${NUM_GPUS:-$(nvidia-smi -L | wc -l)}
if [[ $NUM_GPUS -gt 1 ]]; then
    torchrun --standalone --nproc-per-node="$NUM_GPUS" train.py "$@"
else
    CUDA_VISIBLE_DEVICES=0 python train.py "$@"
fi
