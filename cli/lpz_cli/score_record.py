"""The JSON of `lpz score`: everything that decides its numbers, and `--from`, which scores again as it says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import typer

from lpz_cli.options import LARGEST_SEED, Conditions, Precision
from lpz_cli.unread import given, option
from lpzero_hf.errors import LpzError, UsageError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LEFT_OUT = "left out"
FREE = {"json", "csv", "no_plugin", "recorded", "force"}  # options that decide no number
REMEDY = "give a file that `lpz score --json` wrote with this version"


@dataclass(frozen=True)
class ScoreRequest:
    """What `lpz score` is asked for, without what only decides how it is shown.

    Args:
        models: as named.
        proxies: as named, for all models; None for those recommended for each.
        batch_size: sequences in the minibatch.
        seq_len: tokens of each; None for 128, or the positions of a model.
        pretrained: whether checkpoints are loaded.
        checkpointing: whether blocks run twice.
        micro_batch: sequences at a time.
        trust_remote_code: whether a model's own code may run.
        seeds: the number of draws.
        threads: of torch on the CPU; they decide the last digits.
    """

    models: tuple[str, ...]
    proxies: tuple[str, ...] | None
    batch_size: int
    seq_len: int | None
    pretrained: bool
    checkpointing: bool
    micro_batch: int | None
    trust_remote_code: bool
    seeds: int
    threads: int


def settings_of(request: ScoreRequest, conditions: Conditions, device: str) -> dict[str, Any]:
    """Everything that decides the scores, as plain data; a text that cannot be read, which each model tells, has no
    digest."""
    from lpzero_hf.models.text_source import DatasetText, content_digest, source_to_json

    source, digest = conditions.source(), None
    if not isinstance(source, DatasetText) and not conditions.random_tokens:  # rows of a dataset: by their tokens
        with suppress(LpzError):
            digest = content_digest(source)
    return asdict(request) | {
        "text": source_to_json(source),
        "text_sha256": digest,
        "random_tokens": conditions.random_tokens,
        "dtype": conditions.dtype,
        "seed": conditions.seed,
        "device": device,
        "attn": conditions.attn,
        "same_init": conditions.same_init,
    }


def facts_of_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, batch: Mapping[str, Tensor] | None
) -> dict[str, Any]:
    """Digests of the configuration, the tokenizer and the tokens of one model."""
    from lpzero_hf.scoring.cache import digest
    from lpzero_hf.scoring.cache_key import architecture_content

    own = None if tokenizer is None else {"class": type(tokenizer).__name__, "sha256": _of_tokenizer(tokenizer)}
    return {
        "config_sha256": digest(type(model).__name__, architecture_content(model.config)),
        "tokenizer": "embedded" if own is None else own,
        "tokens_sha256": None if batch is None else _of_tensors(batch),
    }


def checkpoint_content(name: str, model: PreTrainedModel) -> str:
    """What a checkpoint holds: the commit of one of the Hub, a digest of the weights of one in a folder."""
    from lpzero_hf.spaces.misplaced import WEIGHTS

    if commit := getattr(model.config, "_commit_hash", None):
        return f"commit {commit}"
    made = hashlib.sha256()
    for file in sorted(Path(name).expanduser().iterdir()):
        if file.suffix in WEIGHTS:
            with file.open("rb") as opened:
                made.update(file.name.encode() + hashlib.file_digest(opened, "sha256").digest())
    return f"sha256 {made.hexdigest()}"


def _of_tensors(batch: Mapping[str, Tensor]) -> str:
    made = hashlib.sha256()
    for name, tensor in sorted(batch.items()):
        made.update(f"{name} {tuple(tensor.shape)} ".encode() + tensor.cpu().numpy().tobytes())
    return made.hexdigest()


def _of_tokenizer(tokenizer: PreTrainedTokenizerBase) -> str:
    words = sorted((word, number) for word, number in tokenizer.get_vocab().items())
    return hashlib.sha256(repr(words).encode()).hexdigest()


@dataclass(frozen=True)
class ScoreRecord:
    """A score that is to be repeated.

    Args:
        file: where it was read.
        request: what was asked for; the proxies that no one named, as they were then.
        conditions: likewise.
        rows: for each model, the values by proxy.
        facts: for each model, its digests.
        proxies: for each model, the names of its proxies.
        settings: as recorded.
        versions: of the libraries then.
        ways: for each model, whether blocks ran twice, and how many sequences at a time.
    """

    file: Path
    request: ScoreRequest
    conditions: Conditions
    rows: tuple[Mapping[str, tuple[Any, Any]], ...]
    facts: tuple[Mapping[str, Any], ...]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    ways: tuple[tuple[bool, int | None], ...]

    def of_model(self, model: int) -> ScoreRequest:
        """What was asked for, in the way in which that model then ran."""
        checkpointing, micro_batch = self.ways[model]
        return replace(self.request, checkpointing=checkpointing, micro_batch=micro_batch)

    def names(self, model: int) -> list[str]:
        """The proxies of a model: as named, or those recommended then."""
        named = self.request.proxies
        return list(self.rows[model]) if named is None or "all" in named else list(named)

    def check_text(self) -> None:
        """Raise `LpzError` if the text has changed."""
        from lpzero_hf.models.text_source import DatasetText, content_digest

        source, before = self.conditions.source(), self.settings["text_sha256"]
        if before is None or isinstance(source, DatasetText):
            return
        if content_digest(source) != before:
            raise LpzError(f"the text '{source}' is not what it was for '{self.file}'; put it back, or score anew")

    def differing(self, documents: Sequence[Mapping[str, Any]], versions: Mapping[str, str]) -> list[str]:
        """What is not as recorded, one sentence for each model; empty if every number is the same."""
        told = []
        for before, facts, now in zip(self.rows, self.facts, documents, strict=True):
            values = {row["proxy"]: _numbers(row) for row in now.get("scores", ())}
            if other := [name for name, value in before.items() if values.get(name) != value]:
                changed = [name.removesuffix("_sha256") for name, value in facts.items() if now.get(name) != value]
                changed += [
                    f"{name} {value} then, {versions.get(name)} now"
                    for name, value in self.versions.items()
                    if versions.get(name) != value
                ]
                why = f" ({'; '.join(changed)})" if changed else ""
                few = ", ".join(other[:3]) + (f" and {len(other) - 3} more" if len(other) > 3 else "")
                told.append(f"{now['model']}: {len(other)} of {len(before)} scores are others, {few}{why}")
        return told


def read_record(file: Path, context: typer.Context) -> ScoreRecord:
    """The score in a file.

    Args:
        file: what `lpz score --json` printed.
        context: of the command that reads it.

    Raises:
        UsageError: the command has models or other options that the file decides.
        LpzError: the file cannot be read, or is no such document.
    """
    from lpzero_hf.files import read_json

    for name in context.params:
        if name not in FREE and given(context, name):
            shown = "MODEL" if name == "models" else option(context, name)
            raise UsageError(f"--from takes models and options from '{file}'; leave out {shown}")
    data = read_json(file, REMEDY)
    try:
        return _recorded(file, data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LpzError(
            f"'{file}' is no complete record of a score ({type(error).__name__}: {error}); {REMEDY}"
        ) from None


def _numbers(row: Mapping[str, Any]) -> tuple[Any, Any]:
    """The score of a row by the first seed, and what all seeds give."""
    return row["value"], json.dumps(row.get("seeds"))  # a tuple is a list once it is read


def _whole(least: int, most: int = 2**31) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _or_none(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value)


CHECKS: dict[str, Callable[[Any], bool]] = {
    "models": _names, "proxies": _or_none(_names), "batch_size": _whole(1), "seq_len": _or_none(_whole(2)),
    "pretrained": _is_bool, "checkpointing": _is_bool, "micro_batch": _or_none(_whole(1)),
    "trust_remote_code": _is_bool, "seeds": _whole(1), "threads": _whole(1, 4096), "random_tokens": _is_bool,
    "seed": _whole(0, LARGEST_SEED), "device": lambda value: isinstance(value, str),
    "dtype": lambda value: value in get_args(Precision), "attn": lambda value: value in (None, "eager", "sdpa"),
    "same_init": _or_none(lambda value: type(value) in (int, float)),
}  # fmt: skip


def _checked(name: str, value: Any) -> Any:
    if not CHECKS[name](value):
        raise ValueError(f"'{name}' is no such setting")
    return value


def _recorded(file: Path, data: Any) -> ScoreRecord:
    settings, models = data["settings"], data["models"]
    for name in CHECKS:
        _checked(name, settings[name])
    for name in ("proxies", "models"):
        settings[name] = None if settings[name] is None else tuple(map(str, settings[name]))
    request = ScoreRequest(**{name: settings[name] for name in ScoreRequest.__dataclass_fields__})
    if len(models) != len(request.models):
        raise ValueError("its models are not those of its settings")
    text = settings["text"]
    source: dict[str, Any] = {}
    if isinstance(text, dict):
        is_file = Path(text["name"]).is_file()
        source = {"column": text["column"]} | (
            {"text": Path(text["name"])}
            if is_file
            else {"dataset": text["name"], "split": text["split"], "dataset_config": text["config"]}
        )
    elif text is not None:
        source = {"text": Path(text)}
    names = ("random_tokens", "dtype", "seed", "device", "attn", "same_init")
    conditions = Conditions(**source, **{name: settings[name] for name in names})
    rows = tuple(
        {row["proxy"]: _numbers(row) for row in model.get("scores", ()) if row["status"] != LEFT_OUT}
        for model in models
    )
    if data.get("interrupted") and not all(rows):
        lacking = next(name for name, found in zip(request.models, rows, strict=True) if not found)
        raise LpzError(f"'{file}' is of a run that was interrupted before '{lacking}' had a score; score anew")
    ways = tuple(
        tuple(_checked(name, model.get(name, settings[name])) for name in ("checkpointing", "micro_batch"))
        for model in models
    )
    facts = tuple(
        {name: model.get(name) for name in ("config_sha256", "tokens_sha256", "tokenizer", "checkpoint")}
        for model in models
    )
    return ScoreRecord(file, request, conditions, rows, facts, settings, data["versions"], ways)
