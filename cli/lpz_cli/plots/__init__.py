"""Figures that the commands write, one module each."""
