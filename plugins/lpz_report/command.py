"""The command line that repeats a search."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lpzero_hf.benchmarks.table_options import TableOptions
from lpzero_hf.models.file_rows import is_table
from lpzero_hf.models.text_source import DatasetText, Source
from lpzero_hf.searching.config import SearchConfig

SETTING = {"batch_size": "--batch-size", "seq_len": "--seq-len", "dtype": "--dtype"}
NUMBERS = {"splits": "--splits", "fitness": "--fitness", "combine": "--combine", "select": "--select"} | {
    "early": "--early", "children": "--iterations", "population": "--population", "seed": "--seed",
    "limit": "--limit", "match": "--match", "within": "--within", "over_settings": "--over-settings",
    "preset": "--preset", "batch": "--batch",
}  # fmt: skip
ONLY_PYTHON = ("elite", "crossover", "mutation")


def command(config: SearchConfig, tests: Sequence[str] = (), ceiling: bool = False) -> str:
    """The `lpz search` command of a configuration for a shell, without default values.

    Args:
        config: of the search.
        tests: further benchmarks that the winners were tested on.
        ceiling: whether all architectures were searched on too.

    Example:
        >>> command(SearchConfig(("tiny-gpt2",), "exhaustive", train=40, seed=7))
        'lpz search tiny-gpt2 --strategy exhaustive --train 40 --seed 7 --device cpu'
    """
    usual = SearchConfig(config.benchmarks)
    many = replace(config, iterations=None).children  # what its strategy, preset and space make of no --iterations
    words = ["lpz", "search", *config.benchmarks, "--strategy", config.strategy]

    def add(option: str, value: Any, default: Any) -> None:
        if value != default:
            words.extend([option, str(value)])

    add("--unary", ",".join(map(str, config.unary)), ",".join(map(str, usual.unary)))
    for option, folds in (("--reduce", config.reduces), ("--aggregate", config.aggregates)):
        add(option, folds[0] if len(folds) == 1 else "any", "any")
    add("--train", config.train or 0, usual.train)
    unread = _unread(config)
    for name, option in NUMBERS.items():
        if name not in unread:
            add(option, getattr(config, name), many if name == "children" else getattr(usual, name))
    several = [("--minibatch", f"{sequences}x{tokens}") for sequences, tokens in config.minibatches]
    if config.init_seeds or config.setting.weights_seed != config.setting.seed:
        several += [("--init-seed", str(seed)) for seed in config.init_seeds or (config.setting.weights_seed,)]
    for name, option in SETTING.items():
        if name == "dtype" or not config.minibatches:
            add(option, getattr(config.setting, name), getattr(usual.setting, name))
    words += [word for pair in several for word in pair]
    words += _text(config.setting.text)
    words += [] if config.table is None else _table(config.table)
    add("--same-init", config.setting.init_std, None)
    words += ["--device", config.setting.device]
    words += ["--start", "RUN"] * bool(config.starts)  # whose folder is not known
    words += ["--no-prune"] * (not config.prune and "prune" not in unread) + [
        "--random-tokens"
    ] * config.setting.random_tokens
    words += [word for name in tests for word in ("--test", name)] + ["--ceiling"] * ceiling
    return shlex.join(words)


def _unread(config: SearchConfig) -> set[str]:
    """The settings that this way to search does not read, of which the command refuses the options."""
    unread = set() if len(config.benchmarks) > 1 else {"combine"}
    unread |= set() if config.several else {"over_settings"}
    unread |= set() if config.fitness == "spearman" else {"early"}
    unread |= {"population", "early"} if config.in_generations else set()
    unread |= set() if config.strategy == "evolution" else {"preset"}
    listing = {"children", "population", "preset", "batch", "prune", "early"}
    return unread | (listing if config.strategy == "exhaustive" else set())


def _text(source: Source | None) -> list[str]:
    """The options that name the text of the minibatches."""
    if not isinstance(source, DatasetText):
        return [] if source is None else ["--text", str(source)]
    words = ["--text" if is_table(source.name) else "--dataset", source.name]
    usual = DatasetText(source.name)
    for name, option in {"config": "--dataset-config", "split": "--split", "column": "--column"}.items():
        if (value := getattr(source, name)) != getattr(usual, name):
            words += [option, value]
    return words


def _table(table: TableOptions) -> list[str]:
    """The options of a table."""
    words = ["--metric", table.metric, "--higher-is-better" if table.larger_is_better else "--lower-is-better"]
    for option, value in (
        ("--architecture-column", table.architecture), ("--base", table.base), ("--space", table.space),
        ("--seed-column", table.seed_column), *(("--extra-column", name) for name in table.extra_columns),
    ):  # fmt: skip
        words += [] if value is None else [option, value]
    return words + ["--skip-bad-rows"] * table.skip_bad_rows


def only_in_python(config: SearchConfig) -> str:
    """Settings without an option of the command that differ from the default; an empty text if there are none."""
    usual = SearchConfig(config.benchmarks)
    changed = [name for name in ONLY_PYTHON if getattr(config, name) != getattr(usual, name)]
    shown = [f"{name}={getattr(config, name)}" for name in changed]
    return ", ".join(shown + [f"setting.seed={config.setting.seed}"] * (config.setting.seed != config.seed))
