"""Half-precision models: rounding and nothing else, and an overflow has no score; configurations that ask for
quantization."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lpzero_hf import load_model, minibatch, score
from lpzero_hf.errors import ModelWarning
from lpzero_hf.models.build import build_model
from tests.support.families import FAMILIES, tiny_model

# The largest relative change of a score when the same rounded weights run in half precision instead of float32. What is
# small by cancellation, or divides by a difference of two gradients, has a bound of its own.
BOUND = {torch.float16: 0.01, torch.bfloat16: 0.02}
CANCELLING = {"plain": 0.15, "synaptic_saliency": 0.2, "zico": 0.15, "zen": 0.25, "jacobian_cosine": 0.1, "grasp": 0.05,
              "lpzero-flexibert": 0.05, "head_importance": 0.05, "w_pca": 0.05, "v_pca": 0.05, "az_progressivity": 0.1,
              "meco": 0.5}  # fmt: skip
RANKS_ONLY = {"eznas"}  # the sign of a tiny number: no bound


@pytest.mark.parametrize("dtype", BOUND, ids=str)
@pytest.mark.parametrize("family", ["gpt2", "llama", "bert", "t5", "qwen3_moe"])
def test_half_precision_changes_scores_by_rounding_alone(family: str, dtype: torch.dtype) -> None:
    half, exact = tiny_model(family).to(dtype), tiny_model(family).to(dtype).float()
    batch = minibatch(half, batch_size=4, seq_len=16)
    rows, expected = score(half, batch, "all"), score(exact, batch, "all")
    for name, row in rows.items():
        if row.status == "invalid":
            assert name == "grasp"  # a second derivative of a masked softmax, which fp16 has no room for
        elif row.value is not None and name not in RANKS_ONLY:
            bound = CANCELLING.get(name, BOUND[dtype])
            assert row.value == pytest.approx(expected[name].require(), rel=bound), name
    exactly = ["params", "decoder_params", "attention_params", "num_layers", "flops"]
    assert [rows[name].value for name in exactly] == [expected[name].value for name in exactly]


def overflowing(dtype: torch.dtype) -> torch.nn.Module:
    model = tiny_model("llama")
    with torch.no_grad():
        for block in model.model.layers:
            block.mlp.up_proj.weight.mul_(1e4)
            block.mlp.down_proj.weight.mul_(1e4)
    return model.to(dtype)


FORWARD = ["nwot", "activation_distance", "attention_confidence", "w_pca", "v_pca", "sum(sum(sum(abs(A), abs(S))))"]
BACKWARD = ["snip", "grad_norm", "jacobian_cosine", "grasp", "zico", "zen", "head_importance"]


@pytest.mark.parametrize("micro_batch", [None, 2])
def test_an_overflow_has_no_score(batch: dict[str, Tensor], micro_batch: int | None) -> None:
    rows = score(overflowing(torch.float16), batch, [*FORWARD, *BACKWARD, "l2_norm"], micro_batch=micro_batch)
    assert {name: row.status for name, row in rows.items()} == dict.fromkeys([*FORWARD, *BACKWARD], "invalid") | {
        "l2_norm": "ok"
    }
    assert "float16" in rows["nwot"].reason
    assert "dtype=torch.float32" in rows["snip"].reason
    wide = score(overflowing(torch.float32), batch, [*FORWARD, *BACKWARD], micro_batch=micro_batch)
    assert {row.status for row in wide.values()} == {"ok"}


def test_what_is_not_finite_behind_padding_is_no_overflow(batch: dict[str, Tensor]) -> None:
    model = tiny_model("gpt2")
    batch["attention_mask"][:, -2:] = 0

    def spoil(module: object, inputs: object, output: Tensor) -> Tensor:
        return output.masked_fill(torch.arange(output.shape[1])[:, None] >= 10, torch.nan)

    model.lm_head.register_forward_hook(spoil)
    assert score(model, batch, "nwot")["nwot"].status == "ok"


def config(tmp_path: Path, **more: object) -> str:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(FAMILIES["llama"] | {"model_type": "llama"} | more))
    return str(file)


@pytest.mark.parametrize("method", ["gptq", "fp8", "bitsandbytes", "unheard of"])
@pytest.mark.parametrize("lazy", [True, False])
def test_a_configuration_that_asks_for_quantization_is_told_that_it_gets_none(
    tmp_path: Path, method: str, lazy: bool, batch: dict[str, Tensor]
) -> None:
    source = config(tmp_path, quantization_config={"quant_method": method, "bits": 4})
    with pytest.warns(ModelWarning, match="quantization_config"):
        loaded = load_model(source, lazy=lazy)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ModelWarning)  # told once
        rows = score(loaded.model, batch, ["params", "snip"])
    plain = score(load_model(config(tmp_path), lazy=lazy).model, batch, ["params", "snip"])
    assert {name: row.value for name, row in rows.items()} == {name: row.value for name, row in plain.items()}


def test_so_are_spaces_and_models_in_memory(batch: dict[str, Tensor]) -> None:
    model = tiny_model("llama")
    model.config.quantization_config = {"quant_method": "gptq", "bits": 4}
    with pytest.warns(ModelWarning, match="quantization_config"):
        score(model, batch, "params")
    with pytest.warns(ModelWarning, match="quantization_config"):
        built = build_model(model.config)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score(built, batch, "params")
