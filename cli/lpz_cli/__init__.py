"""The `lpz` command line."""
