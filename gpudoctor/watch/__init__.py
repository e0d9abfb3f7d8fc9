"""While a job trains: look again and again, compare, and speak when something goes wrong."""
