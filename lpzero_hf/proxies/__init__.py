"""What a proxy is, and the one place where names become proxies."""
