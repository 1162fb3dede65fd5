"""Rank language-model architectures without training them (LPZero, arXiv:2410.04808, and past it).

>>> from lpzero_hf import load_model, minibatch, score
>>> loaded = load_model("gpt2-variant")
>>> scores = score(loaded.model, minibatch(loaded.model), ["snip", "params"])

The public names are loaded when first used, so that importing the package does not import torch. The packages in here
are the steps of the data flow, from `spaces` to `searching`; their modules may move, the names below stay.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lpzero_hf import moved
from lpzero_hf.artifacts.versions import __version__

if TYPE_CHECKING:
    from lpzero_hf.artifacts.artifact import Artifact as Artifact
    from lpzero_hf.artifacts.artifact import read_artifact as read_artifact
    from lpzero_hf.artifacts.hub import push_to_hub as push_to_hub
    from lpzero_hf.benchmarks.benchmark import Benchmark as Benchmark
    from lpzero_hf.benchmarks.benchmark import Trained as Trained
    from lpzero_hf.benchmarks.benchmark import load_benchmark as load_benchmark
    from lpzero_hf.benchmarks.cost_table import costs_from_table as costs_from_table
    from lpzero_hf.benchmarks.grade import grade as grade
    from lpzero_hf.benchmarks.table import benchmark_from_rows as benchmark_from_rows
    from lpzero_hf.benchmarks.table import benchmark_from_table as benchmark_from_table
    from lpzero_hf.benchmarks.table_options import TableOptions as TableOptions
    from lpzero_hf.capture.spec import Reduction as Reduction
    from lpzero_hf.errors import LpzError as LpzError
    from lpzero_hf.errors import NotApplicable as NotApplicable
    from lpzero_hf.executors.base import Executor as Executor
    from lpzero_hf.executors.base import Failure as Failure
    from lpzero_hf.executors.local import LocalExecutor as LocalExecutor
    from lpzero_hf.executors.offer import ExecutorOffer as ExecutorOffer
    from lpzero_hf.executors.offer import Resources as Resources
    from lpzero_hf.executors.process import ProcessExecutor as ProcessExecutor
    from lpzero_hf.executors.ray import RayExecutor as RayExecutor
    from lpzero_hf.expressions.expression import Expression as Expression
    from lpzero_hf.expressions.expression import parse as parse
    from lpzero_hf.expressions.operations import Unary as Unary
    from lpzero_hf.hookspecs import hookimpl as hookimpl
    from lpzero_hf.models.layout import ModelLayout as ModelLayout
    from lpzero_hf.models.layout import find_layout as find_layout
    from lpzero_hf.models.load import load_model as load_model
    from lpzero_hf.models.minibatch import minibatch as minibatch
    from lpzero_hf.models.text_source import DatasetText as DatasetText
    from lpzero_hf.plugins import load_plugins as load_plugins
    from lpzero_hf.proxies.base import ModelProxy as ModelProxy
    from lpzero_hf.proxies.base import Proxy as Proxy
    from lpzero_hf.proxies.base import StatisticProxy as StatisticProxy
    from lpzero_hf.proxies.evidence import recommended as recommended
    from lpzero_hf.proxies.expression_proxy import expression_proxy as expression_proxy
    from lpzero_hf.proxies.searched_proxy import shipped_proxy as shipped_proxy
    from lpzero_hf.scoring.compare import compare as compare
    from lpzero_hf.scoring.comparison import Comparison as Comparison
    from lpzero_hf.scoring.costs import Cost as Cost
    from lpzero_hf.scoring.costs import CostRow as CostRow
    from lpzero_hf.scoring.costs import CostSubject as CostSubject
    from lpzero_hf.scoring.costs import Deployment as Deployment
    from lpzero_hf.scoring.costs import Measured as Measured
    from lpzero_hf.scoring.costs import measure_costs as measure_costs
    from lpzero_hf.scoring.load_proxy import load_proxy as load_proxy
    from lpzero_hf.scoring.rank import rank as rank
    from lpzero_hf.scoring.score import score as score
    from lpzero_hf.scoring.scores import Score as Score
    from lpzero_hf.scoring.scores import Scores as Scores
    from lpzero_hf.scoring.setting import Setting as Setting
    from lpzero_hf.scoring.trainer_callback import ProxyCallback as ProxyCallback
    from lpzero_hf.searching.config import SearchConfig as SearchConfig
    from lpzero_hf.searching.result import SearchResult as SearchResult
    from lpzero_hf.searching.search import search as search
    from lpzero_hf.spaces.base import Architecture as Architecture
    from lpzero_hf.spaces.base import SearchSpace as SearchSpace
    from lpzero_hf.spaces.config_space import ConfigSpace as ConfigSpace
    from lpzero_hf.spaces.listed import ListedMember as ListedMember
    from lpzero_hf.spaces.listed import ListedSpace as ListedSpace
    from lpzero_hf.spaces.named import ZooModel as ZooModel
    from lpzero_hf.spaces.named import load_space as load_space
    from lpzero_hf.spaces.shipped_space import ShippedSpace as ShippedSpace
    from lpzero_hf.spaces.space import Choice as Choice
    from lpzero_hf.spaces.space import Space as Space

_HOMES = {
    "Artifact": "artifacts.artifact",
    "read_artifact": "artifacts.artifact",
    "push_to_hub": "artifacts.hub",
    "Benchmark": "benchmarks.benchmark",
    "Trained": "benchmarks.benchmark",
    "load_benchmark": "benchmarks.benchmark",
    "costs_from_table": "benchmarks.cost_table",
    "grade": "benchmarks.grade",
    "benchmark_from_rows": "benchmarks.table",
    "benchmark_from_table": "benchmarks.table",
    "TableOptions": "benchmarks.table_options",
    "Reduction": "capture.spec",
    "LpzError": "errors",
    "NotApplicable": "errors",
    "Executor": "executors.base",
    "Failure": "executors.base",
    "LocalExecutor": "executors.local",
    "ExecutorOffer": "executors.offer",
    "Resources": "executors.offer",
    "ProcessExecutor": "executors.process",
    "RayExecutor": "executors.ray",
    "Expression": "expressions.expression",
    "parse": "expressions.expression",
    "Unary": "expressions.operations",
    "hookimpl": "hookspecs",
    "ModelLayout": "models.layout",
    "find_layout": "models.layout",
    "load_model": "models.load",
    "minibatch": "models.minibatch",
    "DatasetText": "models.text_source",
    "load_plugins": "plugins",
    "ModelProxy": "proxies.base",
    "Proxy": "proxies.base",
    "StatisticProxy": "proxies.base",
    "expression_proxy": "proxies.expression_proxy",
    "shipped_proxy": "proxies.searched_proxy",
    "recommended": "proxies.evidence",
    "compare": "scoring.compare",
    "Comparison": "scoring.comparison",
    "Cost": "scoring.costs",
    "CostRow": "scoring.costs",
    "CostSubject": "scoring.costs",
    "Deployment": "scoring.costs",
    "Measured": "scoring.costs",
    "measure_costs": "scoring.costs",
    "load_proxy": "scoring.load_proxy",
    "rank": "scoring.rank",
    "Score": "scoring.scores",
    "Scores": "scoring.scores",
    "score": "scoring.score",
    "Setting": "scoring.setting",
    "ProxyCallback": "scoring.trainer_callback",
    "SearchConfig": "searching.config",
    "SearchResult": "searching.result",
    "search": "searching.search",
    "Architecture": "spaces.base",
    "SearchSpace": "spaces.base",
    "ConfigSpace": "spaces.config_space",
    "ListedMember": "spaces.listed",
    "ListedSpace": "spaces.listed",
    "ZooModel": "spaces.named",
    "load_space": "spaces.named",
    "ShippedSpace": "spaces.shipped_space",
    "Choice": "spaces.space",
    "Space": "spaces.space",
}
__all__ = ["__version__", *_HOMES]

moved.install()


def __getattr__(name: str) -> Any:
    home = _HOMES.get(moved.current(name))
    if home is None:
        raise AttributeError(f"module 'lpzero_hf' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"lpzero_hf.{home}"), moved.current(name))
    globals()[name] = value
    return value
