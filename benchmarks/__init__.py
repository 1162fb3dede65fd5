"""Measurements behind the claims of the README; each module is run with `python -m benchmarks.NAME`."""
