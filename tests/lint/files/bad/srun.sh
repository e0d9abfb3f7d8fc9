srun -N 2 --ntasks-per-node=2 --gres=gpu:1 --container-image=train.sqsh python train.py
