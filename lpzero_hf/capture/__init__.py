"""One forward and one backward pass that reduces the statistics of a model."""

from lpzero_hf.moved import names_of

__getattr__ = names_of("capture.capture")  # a module in 0.1.0
