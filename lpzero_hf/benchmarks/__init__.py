"""Benchmarks of trained architectures, and how well scores agree with their performance."""

from lpzero_hf.moved import names_of

__getattr__ = names_of("benchmarks.benchmark")  # a module in 0.1.0
