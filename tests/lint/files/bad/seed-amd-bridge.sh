docker run -p 29500:29500 --device=/dev/kfd --device=/dev/dri --shm-size=8G \
  -e MASTER_ADDR=192.168.1.100 -e MASTER_PORT=29500 -e WORLD_SIZE=2 -e RANK=0 \
  rocm/pytorch:latest python train.py
