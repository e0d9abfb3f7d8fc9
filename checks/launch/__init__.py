"""Launch files before they run: what only the file shows. `gpudoctor lint` runs these, no other."""
