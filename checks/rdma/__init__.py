"""InfiniBand, RoCE and EFA: devices, ports, addresses, and the way from there to the GPUs."""
