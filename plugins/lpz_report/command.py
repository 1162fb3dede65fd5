"""The command line that repeats a search."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from lpzero_hf.search.config import Plan

SETTING = {"batch_size": "--batch-size", "seq_len": "--seq-len", "text": "--text", "dtype": "--dtype"}
NUMBERS = {"splits": "--splits", "fitness": "--fitness", "combine": "--combine", "select": "--select"} | {
    "early": "--early", "iterations": "--iterations", "population": "--population", "seed": "--seed", "limit": "--limit"
}  # fmt: skip
ONLY_PYTHON = ("elite", "crossover", "mutation")


def command(plan: Plan, tests: Sequence[str] = (), ceiling: bool = False) -> str:
    """The `lpz search` of a plan, without what is as by default, for a shell.

    Args:
        plan: of the search.
        tests: further benchmarks that the winners were tested on.
        ceiling: whether all architectures were searched on too.

    Example:
        >>> command(Plan(("tiny-gpt2",), "exhaustive", train=40, seed=7))
        'lpz search tiny-gpt2 --strategy exhaustive --train 40 --seed 7 --device cpu'
    """
    usual = Plan(plan.benchmarks)
    words = ["lpz", "search", *plan.benchmarks, "--strategy", plan.strategy]

    def add(option: str, value: Any, default: Any) -> None:
        if value != default:
            words.extend([option, str(value)])

    add("--unary", ",".join(map(str, plan.unary)), ",".join(map(str, usual.unary)))
    for option, folds in (("--reduce", plan.reduces), ("--aggregate", plan.aggregates)):
        add(option, folds[0] if len(folds) == 1 else "any", "any")
    add("--train", plan.train or 0, usual.train)
    for name, option in NUMBERS.items():
        add(option, getattr(plan, name), getattr(usual, name))
    for name, option in SETTING.items():
        add(option, getattr(plan.setting, name), getattr(usual.setting, name))
    words += ["--device", plan.setting.device]
    words += ["--no-prune"] * (not plan.prune) + ["--random-tokens"] * plan.setting.random_tokens
    words += [word for name in tests for word in ("--test", name)] + ["--ceiling"] * ceiling
    return shlex.join(words)


def only_in_python(plan: Plan) -> str:
    """Settings that no option of the command gives, where they are not as by default; else an empty text."""
    usual = Plan(plan.benchmarks)
    changed = [name for name in ONLY_PYTHON if getattr(plan, name) != getattr(usual, name)]
    told = [f"{name}={getattr(plan, name)}" for name in changed]
    return ", ".join(told + [f"setting.seed={plan.setting.seed}"] * (plan.setting.seed != plan.seed))
