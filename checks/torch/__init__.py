"""PyTorch of the job: whether it can be imported, fits driver and GPUs, and computes rightly."""
