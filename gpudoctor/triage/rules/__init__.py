"""What log lines mean: one TOML file for each of those who write them."""
