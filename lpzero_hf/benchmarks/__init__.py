"""Trained architectures, and how well scores agree with their performance."""
