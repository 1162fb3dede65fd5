"""Installable plugin packages, written completely or not at all."""

from lpzero_hf.moved import names_of

__getattr__ = names_of("packaging.package")  # a module in 0.1.0
