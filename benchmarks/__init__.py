"""Speed, measured: each module is one comparison and runs as ``python -m benchmarks.NAME``."""
