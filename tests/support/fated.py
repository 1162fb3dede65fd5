"""Models that go well, fail, kill their process or need much memory, in a space that worker processes can find."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from lpzero_hf.spaces.space import Choice, Space, Value


class FatedConfig(GPT2Config):
    """Of a GPT-2 whose forward pass goes well, fails, kills the process or has room for one sample, as `fate` says."""

    model_type = "fated-gpt2"


class FatedModel(GPT2LMHeadModel):
    """See `FatedConfig`."""

    config_class = FatedConfig

    def forward(self, *arguments: Any, **named: Any) -> Any:
        if self.config.fate == "fails":
            raise RuntimeError("this architecture never works")
        if self.config.fate == "kills":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.config.fate == "tight" and len(named["input_ids"]) > 1 and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().forward(*arguments, **named)


AutoConfig.register("fated-gpt2", FatedConfig)
AutoModelForCausalLM.register(FatedConfig, FatedModel)


def fated(fate: str, width: int = 16) -> FatedConfig:
    """A small configuration of that fate."""
    return FatedConfig(
        fate=fate, n_layer=1, n_embd=width, n_head=2, vocab_size=4096, n_positions=32, bos_token_id=2, eos_token_id=2
    )


def build(shared: Mapping[str, Value], layers: Sequence[Mapping[str, Value]]) -> FatedConfig:
    """The configuration of an architecture of `FATES`."""
    return fated(str(shared["fate"]), int(shared["width"]))


FATES = Space(
    name="fates",
    summary="",
    shared=(Choice("", "fate", ("well", "fails", "kills")), Choice("w", "width", (16, 24))),
    depths=(1,),
    layer=(),
    build=build,
)
