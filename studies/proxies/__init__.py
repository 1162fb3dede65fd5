"""Proxies: how each ranks every benchmark, and how far noise, minibatch, seed and precision change that."""
