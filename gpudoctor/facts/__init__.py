"""What can be known: frozen structs, one module per source."""
