"""Spaces of architectures, and architectures by name."""
