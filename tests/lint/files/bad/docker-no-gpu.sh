docker run --rm --shm-size=8g nvcr.io/nvidia/pytorch:25.01-py3 python train.py
