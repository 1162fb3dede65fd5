"""Studies: what the papers claim, what this project measures on the same architectures, and what lies beyond."""
