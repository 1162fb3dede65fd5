"""Installable plugin packages, written whole or not at all."""
