"""The setting of a score: minibatch, seed, precision and device; it builds the model and the minibatch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lpzero_hf.artifacts.versions import versions
from lpzero_hf.capture.spec import READING, STATISTICS
from lpzero_hf.errors import UsageError
from lpzero_hf.models.build import build_model
from lpzero_hf.models.minibatch import BATCH_SIZE, SEQUENCE_LENGTH, minibatch
from lpzero_hf.models.text_source import (
    DatasetText,
    Source,
    Text,
    content_digest,
    read_text,
    source_from_json,
    source_of,
    source_to_json,
)
from lpzero_hf.models.text_tokens import draw_rows, embedded_tokenizer
from lpzero_hf.models.torch_names import device_of, precision, precision_name
from lpzero_hf.scoring.cache import digest

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

SEEDS = 2**53  # the first seed that JSON need not keep exactly


def switches() -> list[str]:
    """The switches of this process that change how torch and transformers compute."""
    cuda = torch.backends.cuda
    return [
        torch.get_float32_matmul_precision(),
        *(str(value) for value in (
            torch.are_deterministic_algorithms_enabled(), torch.get_default_dtype(), torch.backends.mkldnn.enabled,
            torch.backends.cudnn.allow_tf32, torch.backends.cudnn.enabled, torch.is_autocast_enabled("cpu"),
            torch.is_autocast_enabled("cuda"), cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(),
            cuda.math_sdp_enabled(), cuda.cudnn_sdp_enabled(), cuda.matmul.allow_fp16_reduced_precision_reduction,
            cuda.matmul.allow_bf16_reduced_precision_reduction, os.environ.get("USE_HUB_KERNELS"),
        )),
    ]  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """Everything that determines a score, except the architecture and the proxy.

    Args:
        batch_size: sequences in the minibatch.
        seq_len: tokens of each.
        text: what the minibatch is drawn from: a text file, a file with columns or a dataset, see `minibatch`; None for
            the embedded text.
        random_tokens: random token ids instead of text.
        seed: draws the weights, the minibatch and all else that is random in a score.
        dtype: precision of the weights, by its name or as torch has it; kept as the name.
        device: where to score, likewise.
        attention: the implementation of attention, "eager" or "sdpa"; None for the configuration's.
        init_seed: draws the weights alone, in place of `seed`: the tokens, the masked ones among them and the random
            projection of a model without a loss stay the same.
        init_std: the standard deviation of the random weights of every model; None for its configuration's.

    Raises:
        UsageError: `init_seed` is negative, or 2**53 or more, or torch has no such precision or device.
    """

    batch_size: int = BATCH_SIZE
    seq_len: int = SEQUENCE_LENGTH
    text: Source | None = None
    random_tokens: bool = False
    seed: int = 42
    dtype: str = "float32"
    device: str = "cpu"
    attention: str | None = None
    init_seed: int | None = None
    init_std: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", source_of(self.text))
        object.__setattr__(self, "dtype", precision_name(self.dtype))
        object.__setattr__(self, "device", str(device_of(self.device)))
        if self.init_seed is not None and not 0 <= self.init_seed < SEEDS:
            raise UsageError(f"the seed of the weights, {self.init_seed}, is not from 0 to 2**53 - 1; choose another")

    @property
    def weights_seed(self) -> int:
        """The seed that draws the weights."""
        return self.seed if self.init_seed is None else self.init_seed

    def build(self, config: PreTrainedConfig) -> tuple[PreTrainedModel, dict[str, Tensor]]:
        """The model of an architecture with random weights, and its minibatch: `input_ids` [B, T], ...

        Args:
            config: of the architecture.

        Raises:
            ModelError: the configuration cannot be built.
            MinibatchError: the text is missing or too short, or the minibatch does not fit the model.
        """
        model = self.model(config)
        return model, self.minibatch(model)

    def model(self, config: PreTrainedConfig, *, lazy: bool = False) -> PreTrainedModel:
        """The model of an architecture with random weights.

        Args:
            config: of the architecture.
            lazy: give the weights no memory, see `load_model`.

        Raises:
            ModelError: the configuration cannot be built.
        """
        return build_model(
            config, seed=self.weights_seed, dtype=precision(self.dtype), device=self.device, lazy=lazy,
            attention=self.attention, init_std=self.init_std,
        )  # fmt: skip

    def minibatch(self, model: PreTrainedModel) -> dict[str, Tensor]:
        """The minibatch for an existing model, from the embedded tokenizer.

        Raises:
            MinibatchError: as for `build`.
        """
        return minibatch(
            model,
            text=self.text,
            batch_size=self.batch_size,
            seq_len=self.seq_len,
            seed=self.seed,
            random_tokens=self.random_tokens,
        )

    def portable(self) -> Setting:
        """The same setting with the content of its text, for workers on machines that do not have the file.

        Of a dataset, these are the rows that the minibatch takes: they are read here, once.

        Raises:
            UsageError: the dataset, its split or its column is unknown.
            MinibatchError: the text cannot be read.
        """
        match self.text:
            case DatasetText() as source:
                drawn = draw_rows(source, embedded_tokenizer(), self.batch_size, self.seq_len, self.seed)
                return replace(self, text=drawn)
            case Path() as path:
                return replace(self, text=Text(path, read_text(path)))
        return self

    def content(self) -> str:
        """SHA-256 of the text, or of the rows of a dataset that the minibatch takes. Raises as `portable` does."""
        text = self.portable().text
        assert not isinstance(text, DatasetText)
        return content_digest(text)

    def key(self, threads: int) -> str:
        """A digest of all that determines the scores: the setting, the content of the text, versions, CPU threads."""
        facts = self._facts() | {"text": self.content(), "device": torch.device(self.device).type}
        made = versions()
        software = made["lpzero-hf"], made["torch"], made["transformers"]
        return digest(facts, STATISTICS, READING, *software, threads, switches())

    def to_json(self) -> dict[str, Any]:
        """As plain data; a text is named by its path, a dataset by its name, split, column and configuration."""
        return self._facts() | {"text": source_to_json(self.text)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Setting:
        """The setting from the result of `to_json`."""
        return cls(**{**data, "text": source_from_json(data["text"])})

    def _facts(self) -> dict[str, Any]:
        """All fields; those that older versions did not have only where they differ from the default."""
        facts = asdict(self)
        same = {
            "attention": self.attention is None,
            "init_seed": self.weights_seed == self.seed,
            "init_std": self.init_std is None,
        }
        return {name: value for name, value in facts.items() if not same.get(name)}
