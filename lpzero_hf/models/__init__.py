"""Builds and loads models, makes minibatches, and finds a model's blocks, mixers and linear layers."""

from lpzero_hf.moved import names_of

__getattr__ = names_of("models.load", "models.build", "spaces.named")  # a module in 0.1.0
