"""One module per format, each with `render(report, page) -> str`."""
