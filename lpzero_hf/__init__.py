"""Rank language-model architectures without training them (LPZero, arXiv:2410.04808, and past it).

>>> from lpzero_hf import load_model, minibatch, score
>>> loaded = load_model("gpt2-variant")
>>> scores = score(loaded.model, minibatch(loaded.model), ["snip", "params"])

The public names are loaded when first used, so that importing the package does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lpzero_hf.artifact import Artifact as Artifact
    from lpzero_hf.artifact import read_artifact as read_artifact
    from lpzero_hf.batches import minibatch as minibatch
    from lpzero_hf.benchmarks import Benchmark as Benchmark
    from lpzero_hf.benchmarks import Trained as Trained
    from lpzero_hf.errors import LpzError as LpzError
    from lpzero_hf.errors import NotApplicable as NotApplicable
    from lpzero_hf.evaluation import Setting as Setting
    from lpzero_hf.executors import LocalExecutor as LocalExecutor
    from lpzero_hf.executors import ProcessExecutor as ProcessExecutor
    from lpzero_hf.executors import RayExecutor as RayExecutor
    from lpzero_hf.expression import Expression as Expression
    from lpzero_hf.expression import parse as parse
    from lpzero_hf.expression_proxies import expression_proxy as expression_proxy
    from lpzero_hf.found import SearchResult as SearchResult
    from lpzero_hf.grading import grade as grade
    from lpzero_hf.hookspecs import hookimpl as hookimpl
    from lpzero_hf.hub import push_to_hub as push_to_hub
    from lpzero_hf.layout import ModelLayout as ModelLayout
    from lpzero_hf.layout import find_layout as find_layout
    from lpzero_hf.loading import load_proxy as load_proxy
    from lpzero_hf.models import ZooModel as ZooModel
    from lpzero_hf.models import load_model as load_model
    from lpzero_hf.operations import Unary as Unary
    from lpzero_hf.plan import Plan as Plan
    from lpzero_hf.proxy import ModelProxy as ModelProxy
    from lpzero_hf.proxy import Proxy as Proxy
    from lpzero_hf.proxy import StatisticProxy as StatisticProxy
    from lpzero_hf.ranking import rank as rank
    from lpzero_hf.reduction import Reduction as Reduction
    from lpzero_hf.scoring import Score as Score
    from lpzero_hf.scoring import Scores as Scores
    from lpzero_hf.scoring import score as score
    from lpzero_hf.searching import search as search
    from lpzero_hf.spaces import Architecture as Architecture
    from lpzero_hf.spaces import Choice as Choice
    from lpzero_hf.spaces import Space as Space

__version__ = "0.1.0"

_HOMES = {
    "Artifact": "artifact",
    "read_artifact": "artifact",
    "LpzError": "errors",
    "NotApplicable": "errors",
    "Benchmark": "benchmarks",
    "Trained": "benchmarks",
    "Setting": "evaluation",
    "LocalExecutor": "executors",
    "ProcessExecutor": "executors",
    "RayExecutor": "executors",
    "Expression": "expression",
    "parse": "expression",
    "expression_proxy": "expression_proxies",
    "grade": "grading",
    "hookimpl": "hookspecs",
    "push_to_hub": "hub",
    "ModelLayout": "layout",
    "find_layout": "layout",
    "load_proxy": "loading",
    "minibatch": "batches",
    "ZooModel": "models",
    "load_model": "models",
    "Unary": "operations",
    "Plan": "plan",
    "ModelProxy": "proxy",
    "Proxy": "proxy",
    "StatisticProxy": "proxy",
    "rank": "ranking",
    "Reduction": "reduction",
    "Score": "scoring",
    "Scores": "scoring",
    "score": "scoring",
    "SearchResult": "found",
    "search": "searching",
    "Architecture": "spaces",
    "Choice": "spaces",
    "Space": "spaces",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lpzero_hf' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"lpzero_hf.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
