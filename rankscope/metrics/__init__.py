"""Metrics: pure functions from a spectrum to a reading."""
