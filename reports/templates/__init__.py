"""Templates for jinja2."""
