"""Formats for what logs tell. Each has `render(triage, page) -> str`."""
