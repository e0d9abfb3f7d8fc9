"""Scripts that the training job's own Python runs: standard library and torch only, from 3.8 on."""
