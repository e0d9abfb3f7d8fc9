docker run --gpus all --shm_size 16g me/img python train.py
