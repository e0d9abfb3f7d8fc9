"""A training job in small: batches from DataLoader workers, gradients summed over two ranks.

What is in flight at once needs some 200 MiB of /dev/shm.
"""

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader

BATCH = 6 << 20  # numbers of 4 bytes


class Images:
    def __len__(self):
        return 12

    def __getitem__(self, index):
        return torch.full((BATCH,), float(index))


def main():
    dist.init_process_group("gloo")
    total = torch.zeros(1)
    for batch in DataLoader(Images(), batch_size=1, num_workers=2, prefetch_factor=2):
        gradient = batch.mean().reshape(1)
        dist.all_reduce(gradient)
        total += gradient
    if dist.get_rank() == 0:
        print("trained", total.item())
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
