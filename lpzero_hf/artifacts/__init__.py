"""Searched proxies as data: one JSON file each, on disk and on the Hugging Face Hub."""
