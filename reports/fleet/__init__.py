"""Formats for a fleet: many node reports summed up. Each has `render(fleet, page) -> str`."""
