"""The network between nodes: names, the place to meet, and what carries the data."""
