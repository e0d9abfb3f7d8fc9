"""Launch files judged before they run: read, predicted as facts, judged by the same checks."""
