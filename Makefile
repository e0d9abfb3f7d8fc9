# `make test` makes the environment it needs and runs everything that can run here.
