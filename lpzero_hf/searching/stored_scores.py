"""Scores expressions on stored raw statistics, where a space is too large for branch tables.

The statistics of the architectures to search on are captured once, when the first expression is scored. They stay on
the device of the search, or, where they do not fit there, in memory-mapped files that are deleted with the store.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from lpzero_hf.capture import worker_warnings
from lpzero_hf.capture.capture import capture
from lpzero_hf.errors import LpzError, MinibatchError, ModelWarning, one_line
from lpzero_hf.expressions.expression import STATISTIC_NAMES, Expression, role
from lpzero_hf.expressions.operations import installed_operations
from lpzero_hf.expressions.store import Load, RawStore, raw_reductions, sites_of
from lpzero_hf.models.layout import ModelLayout, layout_of
from lpzero_hf.models.memory import available_bytes, free_disk
from lpzero_hf.models.running import running_layout
from lpzero_hf.models.torch_names import precision
from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.scoring.cache import cache_folder
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.searching.table_cache import CaptureFailed

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

GIB = 2**30
SHARE = 0.7  # of the free memory that a store may take
HEADS = 64  # width of a head, where a configuration does not say how many there are
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class StorePlan:
    """Where the raw statistics of a search will be kept, estimated from shapes before the first is captured.

    Args:
        bytes: of all of them.
        memory: bytes free on the device; None where that is unknown.
        disk: bytes free where files would be written.
    """

    bytes: int
    memory: int | None
    disk: int

    @property
    def spilled(self) -> bool:
        """Whether they are written to memory-mapped files, because the device has no room for them."""
        return self.memory is not None and self.bytes > SHARE * self.memory

    def check(self) -> None:
        """Raise `LpzError` if they fit neither in memory nor on the disk."""
        if self.spilled and self.bytes > self.disk:
            raise LpzError(
                f"the statistics of the architectures need about {self.bytes / GIB:.1f} GiB, and fit neither in memory "
                f"({(self.memory or 0) / GIB:.1f} GiB free) nor on the disk of the cache ({self.disk / GIB:.1f} GiB "
                "free); search on fewer with `train=`, take a smaller `batch_size=` or `seq_len=`, `unary=2`, which "
                "needs only tables, or set LPZ_CACHE to a larger disk"
            )

    def __str__(self) -> str:
        where = "in memory-mapped files" if self.spilled else "in memory"
        return f"about {self.bytes / GIB:.1g} GiB of statistics kept {where}"


def plan_store(
    configs: Sequence[PreTrainedConfig],
    setting: Setting,
    plugins: PluginRegistry,
    folder: Path,
    statistics: Collection[str] = STATISTIC_NAMES,
) -> StorePlan:
    """Estimate the store of some architectures; no weight is made.

    Args:
        configs: of the architectures.
        setting: minibatch, precision and device.
        plugins: where layouts are looked up.
        folder: where files would be written.
        statistics: that expressions read.
    """
    elements = 0
    roles = any(map(role, statistics))
    for config in configs:
        model = setting.model(config, lazy=True)
        elements += _elements(model, layout_of(model, plugins), setting, roles)
    size = precision(setting.dtype).itemsize
    return StorePlan(elements * size, available_bytes(torch.device(setting.device)), free_disk(folder))


def _elements(model: PreTrainedModel, layout: ModelLayout, setting: Setting, roles: bool) -> int:
    """W and G, A and J of every linear layer, twice if they are also read by role, and H and S of every mixer."""
    tokens = setting.batch_size * setting.seq_len
    weights = sum(site.parameter.numel() for site in layout.weights)
    widths = [len(matrix) for site in layout.weights for matrix in site.matrices(site.parameter)]
    mixers = sum(len(block.mixers) for block in layout.blocks)
    hidden = int(getattr(model.config, "hidden_size", 0) or max(widths, default=0))
    heads = getattr(model.config, "num_attention_heads", None)
    heads = heads if isinstance(heads, int) else max(1, hidden // HEADS)
    return 2 * (1 + roles) * (weights + tokens * sum(widths)) + mixers * tokens * (hidden + heads * setting.seq_len)


class StoredScores:
    """A `ScoreSource` of some architectures whose raw statistics are stored.

    Args:
        configs: n architectures by any name.
        setting: minibatch, seed, precision and device.
        plugins: where layouts and operations are looked up.
        statistics: that expressions read.
        progress: called with (the plan in words, architectures captured, total number of architectures), before the
            first capture and after each.
    """

    def __init__(
        self,
        configs: Mapping[str, PreTrainedConfig],
        setting: Setting,
        plugins: PluginRegistry,
        *,
        statistics: Collection[str] = STATISTIC_NAMES,
        progress: Progress | None = None,
    ) -> None:
        self.configs, self.setting, self.plugins = dict(configs), setting, plugins
        self.statistics = tuple(statistics)
        self.progress = progress or (lambda what, done, total: None)
        self._store: RawStore | None = None
        self._opened = ExitStack()  # the files of a spilled store; deleted with it at the latest

    @property
    def n(self) -> int:
        """The number of architectures."""
        return len(self.configs)

    @property
    def device(self) -> torch.device:
        """The device of the statistics and the scores."""
        return torch.device(self.setting.device)

    @property
    def tables(self) -> None:
        """None: there are no tables."""
        return None

    @property
    def store(self) -> RawStore:
        """The statistics, captured now if they are not yet.

        Raises:
            LpzError: they fit neither in memory nor on the disk.
            CaptureFailed: architectures cannot be built or captured.
        """
        if self._store is None:
            self._store = self._captured()
        return self._store

    def part(self, architectures: Sequence[int]) -> StoredScores:
        """Some of the architectures, with a store of their own."""
        names = list(self.configs)
        some = {names[i]: self.configs[names[i]] for i in architectures}
        return StoredScores(some, self.setting, self.plugins, statistics=self.statistics, progress=self.progress)

    def prepare(self, expressions: Sequence[Expression]) -> None:
        """Score those that will be asked for together, so that they share what they can."""
        if expressions:
            self.store.scores(expressions)

    def score(self, expression: Expression) -> Tensor:
        """[n], the scores of all architectures; NaN where there is none. Raises as `scores`."""
        return self.scores([expression])[0]

    @property
    def checks(self) -> bool:
        """True: the statistics can be disturbed as by rounding."""
        return True

    def scores(self, expressions: Sequence[Expression], *, check: bool = True) -> Tensor:
        """[m, n], the scores of all architectures under each of m expressions.

        Args:
            expressions: any.
            check: whether one that rounding decides is NaN, which takes each a second time.

        Raises:
            LpzError: the statistics cannot be captured or kept.
            PluginError: an operation gives what it does not promise.
        """
        return self.store.scores(expressions, check=check)

    def close(self) -> None:
        """Forget the statistics, and delete their files."""
        self._store = None
        self._opened.close()

    # Capture -------------------------------------------------------------------------------------------------

    def _captured(self) -> RawStore:
        folder = cache_folder() / "store"
        plan = plan_store(list(self.configs.values()), self.setting, self.plugins, folder, self.statistics)
        plan.check()
        models, reasons, notes = [], {}, Counter[str]()
        reported: set[str] = set()
        for number, (name, config) in enumerate(self.configs.items()):
            self.progress(str(plan), number, self.n)
            with worker_warnings.recording() as recorded:
                try:
                    models.append(self._model(config, notes, folder if plan.spilled else None))
                except MinibatchError:  # wrong for every architecture
                    raise
                except Exception as error:  # all that fail are named together
                    reasons[name] = str(error) if isinstance(error, LpzError) else one_line(error)
            worker_warnings.report(recorded, reported)
        self.progress(str(plan), self.n, self.n)
        if reasons:
            raise CaptureFailed(reasons)
        for message in worker_warnings.counted(notes, self.n):
            warnings.warn(message, ModelWarning, stacklevel=2)
        return RawStore(models, installed_operations(self.plugins), self.device)

    def _model(
        self, config: PreTrainedConfig, notes: Counter[str], folder: Path | None
    ) -> dict[str, list[tuple[int, tuple[int, int], Load]]]:
        model, batch = self.setting.build(config)
        layout = running_layout(model, layout_of(model, self.plugins), batch, self.setting.seed)
        reductions = raw_reductions(precision(self.setting.dtype), self.statistics)
        captured = capture(model, batch, list(reductions.values()), layout, seed=self.setting.seed)
        for reduction in reductions.values():
            if reduction in captured.failures:
                raise captured.failures[reduction]
        notes.update(dict.fromkeys(captured.notes.values(), 1))
        sites = sites_of({group: captured.values[reduction] for group, reduction in reductions.items()})
        return sites if folder is None else self._spilled(sites, folder)

    def _spilled(
        self, sites: Mapping[str, Sequence[tuple[int, tuple[int, int], Load]]], folder: Path
    ) -> dict[str, list[tuple[int, tuple[int, int], Load]]]:
        """The same sites, read from a memory-mapped file."""
        folder.mkdir(parents=True, exist_ok=True)
        place = Path(self._opened.enter_context(TemporaryDirectory(dir=folder))) / "statistics.safetensors"
        tensors = {f"{group}.{i}": load() for group, all_ in sites.items() for i, (_, _, load) in enumerate(all_)}
        try:
            save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, place)
        except Exception as error:
            raise LpzError(f"cannot write '{place}': {one_line(error)}; free disk space, or set LPZ_CACHE") from error
        opened = self._opened.enter_context(safe_open(place, "pt"))

        def read(name: str) -> Load:
            return lambda: opened.get_tensor(name)

        return {
            group: [(block, shape, read(f"{group}.{i}")) for i, (block, shape, _) in enumerate(all_)]
            for group, all_ in sites.items()
        }
