"""Spaces of architectures, and named architectures."""

from lpzero_hf.moved import names_of

__getattr__ = names_of("spaces.space")  # a module in 0.1.0
