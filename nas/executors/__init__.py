"""Where scorers run."""
