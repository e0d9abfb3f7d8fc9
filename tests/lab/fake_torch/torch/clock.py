"""The time that the work has taken so far, and how many works there were."""

seconds = 0.0
works = 0
