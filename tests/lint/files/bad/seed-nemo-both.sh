docker run --rm --gpus all --ipc=host --shm-size=2g --ulimit memlock=-1 --ulimit stack=67108864 \
  -v $(pwd):/workspace -w /workspace \
  nvcr.io/nvidia/nemo:25.04 python continual_learning.py
