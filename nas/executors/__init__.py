"""Executors: run a scorer over candidates, in this process, in threads, or on the workers of a Ray cluster."""
