"""One forward and one backward pass that reduces the statistics of a model."""
