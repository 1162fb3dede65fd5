"""The search for expressions that rank a benchmark's architectures."""

from lpzero_hf.moved import names_of

__getattr__ = names_of("searching.search")  # a module in 0.1.0
