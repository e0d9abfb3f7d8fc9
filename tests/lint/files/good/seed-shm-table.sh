docker run --rm --gpus all --shm-size=1g registry.example.org/frets:1 \
  torchrun --nproc-per-node=8 train_frets_gated_qwen.py
