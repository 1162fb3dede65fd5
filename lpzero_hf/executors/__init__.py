"""Where independent tasks run: in this process, in several processes, or on a Ray cluster.

The interface is `Executor.map` in `base`; each executor has its own file. The names for `--executor NAME` come from
the hook `lpz_executors`; `builtin` offers the three executors of this package through it.
"""

from lpzero_hf.moved import names_of

__getattr__ = names_of("executors.base", "executors.local", "executors.process", "executors.ray")  # a module in 0.1.0
