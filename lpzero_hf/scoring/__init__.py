"""Proxies to scores: of one model, of many architectures, kept in a cache."""
