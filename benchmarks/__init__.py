"""Speeds and memory, side by side with the peers in the same run: `python -m benchmarks`."""
