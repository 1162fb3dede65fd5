"""Symbolic expressions over the six statistics: operations, grammar, canonical forms, branch tables."""
