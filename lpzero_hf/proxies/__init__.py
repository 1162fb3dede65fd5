"""The base classes of proxies, and the lookup of proxies by name."""
