"""The nodes of one job, judged together."""
