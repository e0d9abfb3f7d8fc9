"""Log lines -> what happened first, who only reports it, and the way out."""
