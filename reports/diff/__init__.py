"""What `gpudoctor diff` prints: one module per format, each with `render(difference, page)`."""
