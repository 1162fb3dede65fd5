"""Configurations to models, minibatches, and where a model keeps what is read from it."""
