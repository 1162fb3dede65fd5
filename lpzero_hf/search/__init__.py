"""The search for expressions that rank a benchmark's architectures."""
