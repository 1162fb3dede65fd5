"""Where independent tasks are done: in this process, in several, or on a Ray cluster.

One small interface, `Executor.map` in `base`, and one class per file. What `--executor NAME` may name is the hook
`lpz_executors`; the three of this package are offered through it by `builtin`.
"""

from lpzero_hf.moved import names_of

__getattr__ = names_of("executors.base", "executors.local", "executors.process", "executors.ray")  # a module in 0.1.0
