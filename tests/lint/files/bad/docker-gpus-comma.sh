docker run --rm --gpus device=0,1 --shm-size=16g train:1 python train.py
