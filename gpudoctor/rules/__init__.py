"""What is known of NCCL, CUDA, GPUs, names and packet filters: pure, and shared by the checks."""
