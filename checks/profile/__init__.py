"""What the chosen profile asks for beyond the machine: packages, variables, files, an image."""
