"""Makes a benchmark: draws architectures of a space, trains each one, and records its performance."""

from __future__ import annotations

import functools
import hashlib
import math
import random
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from lpzero_hf.artifacts.versions import versions
from lpzero_hf.benchmarks.benchmark import FORMAT, VERSION
from lpzero_hf.benchmarks.train import Recipe, TrainingOutcome, train
from lpzero_hf.benchmarks.train_stack import check_stackable, train_stack
from lpzero_hf.errors import LpzError, MinibatchError, UsageError, listed, one_line, said_once
from lpzero_hf.executors.base import Executor, Failure
from lpzero_hf.executors.local import LocalExecutor
from lpzero_hf.files import one_process, read_json, same_settings, write_json
from lpzero_hf.models.body_parameters import count_body_parameters
from lpzero_hf.models.build import build_model
from lpzero_hf.models.text_source import DatasetText, Source, source_of
from lpzero_hf.models.text_tokens import read_rows, token_stream, tokenizer_for
from lpzero_hf.spaces.base import Architecture, SearchSpace

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase


RESULT = "benchmark.json"
GROWS = ("n", "repeats", "seeds")  # the first architectures and seeds are the same, however many follow


@dataclass(frozen=True)
class BenchmarkSpec:
    """Everything that determines the numbers of a benchmark that is to be trained.

    Args:
        space: the name of the space.
        n: number of architectures.
        repeats: number of those that are also trained with the other seeds.
        seeds: number of seeds.
        seed: the first seed; it also draws the architectures.
        by: how architectures are drawn, see `Space.sample`.
        min_parameters: the fewest parameters outside embeddings and output head.
        max_parameters: the most.
        recipe: how each is trained.
        listed: text ids of the architectures, in the order of their training; where it is empty they are drawn. Of a
            list, the first `repeats` are trained with all seeds before the others begin, so that what a run has
            trained when it is stopped is a benchmark with its noise.
    """

    space: str
    n: int = 128
    repeats: int = 16
    seeds: int = 3
    seed: int = 42
    by: Literal["architecture", "choice"] = "choice"
    min_parameters: int = 0
    max_parameters: int = 2**62
    recipe: Recipe = field(default_factory=Recipe)
    listed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "listed", tuple(self.listed))  # from JSON, too
        if self.n < 1 or self.seeds < 1:
            raise UsageError("a benchmark needs at least one architecture and one seed")
        if self.listed and self.n > len(self.listed):
            raise UsageError(f"{self.n} architectures are asked for, and {len(self.listed)} are listed; ask for fewer")

    def facts(self) -> dict[str, Any]:
        """All fields as plain data; a list only where there is one, as in older versions."""
        facts = asdict(self)
        listed = facts.pop("listed")
        return facts | ({"listed": list(listed)} if listed else {})

    def architectures(self, space: SearchSpace) -> list[Architecture]:
        """The architectures to train, each once.

        Raises:
            UsageError: the space seems to have too few architectures of that size; or one that is listed is not of the
                space, has another size, or is listed twice.
        """
        if self.listed:
            return self._listed(space)
        rng, tried = random.Random(self.seed), 0
        seen: set[Architecture] = set()
        found: list[Architecture] = []
        while len(found) < self.n:
            candidate = space.sample(rng, self.by)
            if (
                candidate not in seen
                and self.min_parameters <= body_parameters(space, candidate) <= self.max_parameters
            ):
                found.append(candidate)
            else:
                tried += 1
            seen.add(candidate)
            if tried > 100 * self.n + 1000:
                raise UsageError(
                    f"{tried} draws from space '{space.name}' gave only {len(found)} new architectures with "
                    f"{self.min_parameters} to {self.max_parameters} parameters; ask for fewer, or widen the range"
                )
        return found

    def _listed(self, space: SearchSpace) -> list[Architecture]:
        found: list[Architecture] = []
        for text in self.listed[: self.n]:
            try:
                architecture = space.parse(text)
            except UsageError as error:
                raise UsageError(f"the list holds '{text}', which is not of space '{space.name}': {error}") from error
            if architecture in found:
                raise UsageError(f"architecture '{text}' is listed twice; leave one out")
            size = body_parameters(space, architecture)
            if not self.min_parameters <= size <= self.max_parameters:
                raise UsageError(
                    f"architecture '{text}' has {size:,} parameters outside embeddings, not {self.min_parameters:,} to "
                    f"{self.max_parameters:,}; leave it out, or widen the range"
                )
            found.append(architecture)
        return found

    def runs(self, space: SearchSpace) -> list[tuple[str, int]]:
        """Every (text id, seed) to train: all architectures with the first seed, then some with the others.

        Of a list, some with all seeds, then the others with the first.
        """
        names = [space.text(architecture) for architecture in self.architectures(space)]
        if self.listed:
            return [
                (name, self.seed + i)
                for number, name in enumerate(names)
                for i in range(self.seeds if number < self.repeats else 1)
            ]
        first = [(name, self.seed) for name in names]
        further = [(name, self.seed + i) for name in names[: self.repeats] for i in range(1, self.seeds)]
        return first + further


def body_parameters(space: SearchSpace, architecture: Architecture) -> int:
    """Parameters outside embeddings and output head, without drawing any weights."""
    with torch.device("meta"):
        return count_body_parameters(build_model(space.config(architecture), device="meta"))


@said_once
@one_process
def make_benchmark(
    spec: BenchmarkSpec,
    space: SearchSpace,
    out: Path,
    *,
    name: str,
    text: str | Source | None,
    validation: str | Source | None = None,
    executor: Executor | None = None,
    device: str = "cpu",
    command: str = "",
    minutes: float | None = None,
    stack: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Train every architecture of a specification; continues an interrupted call with the same one.

    A call with more architectures, repeats or seeds goes on too: what is trained is not trained again.

    A training that fails, out of memory for example, does not stop the others: at the end it is recorded under
    `failed` with its cause, and an error lists it. The same call tries it again.

    Args:
        spec: what to train, and how.
        space: the one that `spec` names.
        out: the run's folder: `plan.json`, one file per trained model, and at the end `benchmark.json`.
        name: of the benchmark.
        text: to train on: a text file (UTF-8), or a dataset or a file with columns, of which as many rows are read, in
            an order drawn by the seed, as have the tokens of all steps; None for the embedded text.
        validation: to measure on, likewise; None for the last tenth of `text`, which is then not trained on.
        executor: where to work; by default in this process, with one thread. Its threads decide the rounding, the
            number of workers does not; several may share one GPU.
        device: where to train.
        command: recorded as the command that makes it again.
        minutes: after which no training is begun. Those that are not trained then are recorded under `missing`, and
            the same call trains them; another limit is no other specification.
        stack: train all seeds of an architecture at once, see `train_stack`; it changes the rounding, of further seeds
            too, which are stacked apart.
        progress: called with (models trained, total number of models).

    Returns:
        The path of `benchmark.json`.

    Raises:
        UsageError: the folder holds a run of another specification (the message says what differs), or another process
            works in it; or models of the space cannot be stacked.
        LpzError: a file cannot be read or written, no worker can be started, or trainings failed; if not all of
            them did, `benchmark.json` holds the others.
    """
    executor = LocalExecutor() if executor is None else executor
    threads = executor.threads
    runs = spec.runs(space)
    until = math.inf if minutes is None else time.time() + 60 * minutes
    configs = {run[0]: space.config(space.parse(run[0])) for run in runs}
    tokenizer = _tokenizer(configs.values())
    recipe = spec.recipe
    ids = _stream(text, tokenizer, recipe.steps * recipe.batch_size * recipe.seq_len, spec.seed)
    if validation is None:
        ids, measured = ids.split([len(ids) * 9 // 10, len(ids) - len(ids) * 9 // 10])
    else:
        measured = _stream(validation, tokenizer, recipe.windows * recipe.seq_len, spec.seed)
    streams = {"text": ids, "validation": measured}
    corpus = {key: {"tokens": len(ids), "sha256": _fingerprint(ids)} for key, ids in streams.items()}
    how = {"stack": True} if stack else {}
    settings = how | {"corpus": corpus, "threads": threads, "device": torch.device(device).type, "versions": versions()}
    definition = space.definition()
    defined = {} if definition is None else {"definition": definition}
    groups = _stacks([run for run in runs if not _result_file(out, *run).exists()]) if stack else []
    if several := next((group for group in groups if len(group) > 1), None):
        check_stackable(
            configs[several[0][0]], ids, measured, recipe, mask_id=tokenizer.mask_token_id, device=device
        )  # fmt: skip
    same_settings(
        out / "plan.json", spec.facts() | settings | defined, what="training run", grows=GROWS, results=[RESULT]
    )
    trained = {run: _result(out, *run) for run in runs if _result_file(out, *run).exists()}
    remaining = [run for run in runs if run not in trained]
    done = len(runs) - len(remaining)
    if progress is not None:
        progress(done, len(runs))
    tasks = _stacks(remaining) if stack else [[run] for run in remaining]
    work = functools.partial(
        _train_together,
        configs=configs,
        streams=streams,
        recipe=recipe,
        mask_id=tokenizer.mask_token_id,
        device=device,
        until=until,
    )
    failed: dict[tuple[str, int], str] = {}
    for number, made in executor.map(work, tasks):
        if made is None:
            continue
        if isinstance(made, Failure):
            failed |= dict.fromkeys(tasks[number], made.reason)
        else:  # written here and not in the worker, which may be on another machine
            for run, gave in zip(tasks[number], made, strict=True):
                row = {"architecture": run[0], "seed": run[1]} | asdict(gave)
                write_json(_result_file(out, *run), row, indent=None)
        done += len(tasks[number])
        if progress is not None:
            progress(done, len(runs))
    missing = [run for run in runs if run not in failed and not _result_file(out, *run).exists()]
    if len(missing) == len(runs):
        raise LpzError("nothing was trained in that time; the same command goes on, give it more `minutes=`")
    shown = listed({f"{run[0]} with seed {run[1]}": failed[run] for run in runs if run in failed})
    if len(failed) == len(runs):
        raise LpzError(f"every training failed: {shown}")
    document = {
        "format": FORMAT,
        "version": VERSION,
        "name": name,
        "space": space.name,
        **defined,
        "metric": "validation loss (nats per token)",
        "larger_is_better": False,
        "command": command,
        "versions": versions(),
        "device": device,
        "threads": threads,
        **how,
        "corpus": corpus,
        "plan": spec.facts(),
        "trained": [trained.get(run) or _result(out, *run) for run in runs if run not in failed and run not in missing],
    }
    if missing:
        document["missing"] = [{"architecture": name, "seed": seed} for name, seed in missing]
    if failed:
        document["failed"] = [
            {"architecture": run[0], "seed": run[1], "reason": failed[run]} for run in runs if run in failed
        ]
    write_json(out / RESULT, document)
    if failed:
        raise LpzError(
            f"{len(failed)} of {len(runs)} trainings failed: {shown}; '{out / 'benchmark.json'}' holds all others, and "
            "the same command tries these again"
        )
    return out / RESULT


def _tokenizer(configs: Iterable[PreTrainedConfig]) -> PreTrainedTokenizerBase:
    """The tokenizer that fits the smallest vocabulary: the same for all, so that their losses can be compared."""
    sizes = [getattr(config.get_text_config(), "vocab_size", None) for config in configs]
    return tokenizer_for(min((size for size in sizes if isinstance(size, int)), default=sys.maxsize))


def _stream(text: str | Source | None, tokenizer: PreTrainedTokenizerBase, tokens: int, seed: int) -> Tensor:
    """The token ids [N] of a text, or of enough rows of a dataset."""
    source = source_of(text)
    if isinstance(source, DatasetText):
        return read_rows(source, tokenizer, tokens, seed)
    return token_stream(source, tokenizer)


def _stacks(runs: list[tuple[str, int]]) -> list[list[tuple[str, int]]]:
    """The runs of each architecture together, in the order of their first ones."""
    stacks: dict[str, list[tuple[str, int]]] = {}
    for run in runs:
        stacks.setdefault(run[0], []).append(run)
    return list(stacks.values())


def _train_together(
    runs: list[tuple[str, int]],
    *,
    configs: dict[str, Any],
    streams: dict[str, Tensor],
    recipe: Recipe,
    mask_id: int | None,
    device: str,
    until: float,
) -> list[TrainingOutcome] | Failure | None:
    """What the trainings of one architecture gave, one or stacked; None if the time was over before they began."""
    if time.time() > until:
        return None
    config, seeds = configs[runs[0][0]], [seed for _, seed in runs]
    texts = streams["text"], streams["validation"]
    try:
        if len(runs) == 1:
            return [train(config, *texts, recipe, seed=seeds[0], mask_id=mask_id, device=device)]
        return train_stack(config, *texts, recipe, seeds=seeds, mask_id=mask_id, device=device)
    except (MinibatchError, UsageError):  # wrong for every architecture
        raise
    except Exception as error:  # one architecture must not cost the others
        return Failure(one_line(error))


def _result_file(out: Path, name: str, seed: int) -> Path:
    return out / "trained" / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}-{seed}.json"


def _result(out: Path, name: str, seed: int) -> dict[str, Any]:
    file = _result_file(out, name, seed)
    row = read_json(file, "delete it and run again")
    if not isinstance(row, dict) or (row.get("architecture"), row.get("seed")) != (name, seed) or "loss" not in row:
        raise LpzError(f"'{file}' does not hold the result of {name} with seed {seed}; delete it and run again")
    return row


def _fingerprint(ids: Tensor) -> str:
    return hashlib.sha256(ids.numpy().tobytes()).hexdigest()
