"""Architectures under a budget: which proxy chooses well."""
