"""Proxies to scores: of one model, of many architectures, kept in a cache."""

from lpzero_hf.moved import names_of

__getattr__ = names_of("scoring.score", "proxies.resolve")  # a module in 0.1.0
