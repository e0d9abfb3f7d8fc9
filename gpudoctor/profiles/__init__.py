"""What a workload needs, as TOML."""
