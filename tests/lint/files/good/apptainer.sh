#!/bin/bash
#SBATCH --gpus-per-node=4
#SBATCH --ntasks-per-node=1
export APPTAINERENV_NCCL_DEBUG=WARN
srun apptainer exec --nv --bind /scratch,/data:/data:ro pytorch_24.01.sif \
  torchrun --standalone --nproc_per_node=4 train.py
