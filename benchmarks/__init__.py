"""Measurements of speed. Each module is one comparison and runs as ``python -m benchmarks.NAME``."""
