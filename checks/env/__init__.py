"""Environment variables of the job."""
