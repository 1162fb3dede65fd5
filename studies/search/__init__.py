"""Searches: what they find, how many architectures they need, and what each part of them contributes."""
