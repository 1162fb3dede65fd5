"""Configurations to models, minibatches, and where a model keeps what is read from it."""

from lpzero_hf.moved import names_of

__getattr__ = names_of("models.load", "models.build", "spaces.named")  # a module in 0.1.0
