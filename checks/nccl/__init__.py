"""NCCL: the interface and the devices that it picks, and the variables that it is told."""
