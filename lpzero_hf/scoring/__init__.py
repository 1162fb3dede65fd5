"""Scores models with proxies: one model, many architectures, with a cache of scores."""

from lpzero_hf.moved import names_of

__getattr__ = names_of("scoring.score", "scoring.scores", "proxies.resolve")  # a module in 0.1.0
