"""Logs proxies while a model is trained with the `Trainer` of transformers, without a trace in the training."""

from __future__ import annotations

import copy
import itertools
import sys
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from torch.utils.data import IterableDataset
from transformers import Trainer, TrainerCallback

from lpzero_hf.errors import ModelWarning, UsageError, once
from lpzero_hf.models.given_batch import GivenBatch, as_batch, takes
from lpzero_hf.models.isolation import random_numbers
from lpzero_hf.models.unwrap import unwrapped
from lpzero_hf.plugins import PluginRegistry, load_plugins
from lpzero_hf.proxies.evidence import chosen
from lpzero_hf.proxies.resolve import ProxyLike
from lpzero_hf.scoring.score import score

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainerControl, TrainerState, TrainingArguments

INSIDE = ("lpzero_hf", "transformers", "accelerate", "torch")  # no code of the user
FOR_COLLATORS = ("label", "label_ids", "labels")  # columns that a collator makes labels of


class ProxyCallback(TrainerCallback):
    """Logs the scores of a model before the first step and every `every` steps.

    They go through `Trainer.log`: into `trainer.state.log_history`, to TensorBoard, and wherever else the trainer
    reports to. Weights, gradients, random numbers and modes are as before, so that the training is the same with it and
    without. One minibatch serves for all steps, and a warning that each would repeat is said once a training.

    Args:
        trainer: that it will be added to, with `trainer.add_callback`.
        proxies: as for `score`, None for those recommended for the trainer's model. A set of ranks, such as
            `ensemble(...)`, has no score of one model.
        every: steps between two scores; None to score before the first step alone.
        batch: the minibatch, as `score` takes it; by default the first rows of the training data, as the trainer's
            collator makes a minibatch of them.
        seed: for every random choice of a proxy.
        prefix: of the names in the log.
        plugins: where names are looked up; by default everything installed.

    Raises:
        UsageError: a proxy is unknown, or `every` is less than 1.

    Example:
        >>> trainer.add_callback(ProxyCallback(trainer, ["snip", "grad_norm"], every=100))  # doctest: +SKIP
    """

    def __init__(
        self,
        trainer: Trainer,
        proxies: ProxyLike | Iterable[ProxyLike] | None = None,
        *,
        every: int | None = 100,
        batch: GivenBatch | None = None,
        seed: int = 42,
        prefix: str = "proxy/",
        plugins: PluginRegistry | None = None,
    ) -> None:
        if every is not None and every < 1:
            raise UsageError(f"proxies cannot be logged every {every} steps; give 1 or more, or None")
        self.trainer, self.every, self.seed, self.prefix = trainer, every, seed, prefix
        self.plugins = load_plugins() if plugins is None else plugins
        self.proxies = chosen(proxies, [unwrapped(trainer.model)], self.plugins)
        self._batch = batch
        self._ready = False
        self._unscored: set[str] = set()
        self._said: set[tuple[type[Warning], str]] = set()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Score before the first step; a training that is resumed is scored at its next turn.

        Raises:
            UsageError: each process holds only a part of the weights (FSDP, DeepSpeed).
        """
        sharded = {"FSDP": self.trainer.is_fsdp_enabled, "DeepSpeed": self.trainer.is_deepspeed_enabled}
        self._unscored.clear()
        self._said.clear()
        for name in (name for name, on in sharded.items() if on):  # in each process, before any waits for another
            raise UsageError(f"with {name}, no process may hold all weights to score; train with DDP or one process")
        if state.global_step == 0:
            self._log(state, control)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Score every few steps."""
        if self.every is not None and state.global_step % self.every == 0:
            self._log(state, control)

    def _log(self, state: TrainerState, control: TrainerControl) -> None:
        if not state.is_world_process_zero:
            return
        with once(self._said, *_caller()):
            model = unwrapped(self.trainer.model)
            scores = score(model, self._minibatch(model), self.proxies, seed=self.seed, plugins=self.plugins)
            self._tell_of([(row.proxy, row.reason) for row in scores.rows if row.value is None])
        found = {f"{self.prefix}{row.proxy}": row.value for row in scores.rows if row.value is not None}
        if found:
            due = control.should_log
            self.trainer.log(found)
            control.should_log = due  # the loss of this step is still to be logged

    def _tell_of(self, unscored: list[tuple[str, str]]) -> None:
        for name, reason in unscored:
            if name not in self._unscored:
                self._unscored.add(name)
                warnings.warn(f"{name} is not logged where it has no score: {reason}", ModelWarning, stacklevel=2)

    def _minibatch(self, model: PreTrainedModel) -> GivenBatch:
        """What all steps are scored on, made at the first."""
        if not self._ready:
            given = self._first_rows(model) if self._batch is None else self._batch
            self._batch, self._ready = as_batch(given, model), True
        assert self._batch is not None
        return self._batch

    def _first_rows(self, model: PreTrainedModel) -> GivenBatch:
        """The first rows of the training data, collated; the trainer's own loader is not touched.

        Raises:
            UsageError: the trainer has no training data.
        """
        data, size = self.trainer.train_dataset, self.trainer.args.per_device_train_batch_size
        if data is None:
            raise UsageError("the trainer has no training data; give the callback a minibatch: batch=")
        with random_numbers(model, self.seed):
            if not isinstance(data, IterableDataset) and hasattr(data, "__getitem__") and hasattr(data, "__len__"):
                rows = [data[place] for place in range(min(size, len(data)))]
            else:
                rows = list(itertools.islice(iter(_copied(data)), size))  # the training reads it from its start
            if not self.trainer.args.remove_unused_columns:
                return copy.deepcopy(self.trainer.data_collator)(rows)
            kept = [
                {k: v for k, v in row.items() if k in FOR_COLLATORS or takes(model, k)}
                if isinstance(row, dict)
                else row
                for row in rows
            ]
            return copy.deepcopy(self.trainer.data_collator)(kept)  # its random numbers are the training's


def _caller() -> tuple[str, int]:
    """The file and line that called into transformers."""
    frame = sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in INSIDE:
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def _copied(data: Any) -> Any:
    """A copy of a stream of training data. Raises `UsageError` if it can be read only once."""
    try:
        return copy.deepcopy(data)
    except TypeError as error:
        raise UsageError("the training data can be read only once; give the callback a minibatch: batch=") from error
