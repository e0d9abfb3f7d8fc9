"""GPUs: the way to them, what they are set to, how they fare."""
