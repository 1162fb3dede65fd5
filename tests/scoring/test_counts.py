"""Counts cost nothing: no weight, no minibatch, and little memory whatever the size of the model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from lpzero_hf import ModelProxy, Setting, rank, score
from lpzero_hf.errors import MinibatchError, UsageError
from lpzero_hf.models.build import build_model
from lpzero_hf.models.layout import layout_of
from lpzero_hf.proxies.base import Subject
from lpzero_hf.proxies.resolve import resolve
from lpzero_hf.scoring.memory_estimate import estimate_memory
from tests.support.families import FAMILIES

Lpz = Callable[..., tuple[int, str, str]]
SMALL = FAMILIES["gpt2"] | {"vocab_size": 100}  # fewer tokens than the embedded tokenizer has
COUNTS = ("params", "decoder_params", "attention_params", "num_layers", "num_heads", "hidden_size", "depth_width2")
LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 32000, "max_position_embeddings": 2048,
    "tie_word_embeddings": False, "torch_dtype": "float16",
}  # fmt: skip
QWEN3 = {
    "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_size": 4096, "intermediate_size": 12288,
    "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
    "max_position_embeddings": 40960, "tie_word_embeddings": False, "rope_theta": 1000000, "attention_bias": False,
}  # fmt: skip
QWEN3_MOE = {
    "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "hidden_size": 4096, "num_hidden_layers": 94,
    "intermediate_size": 12288, "moe_intermediate_size": 1536, "num_attention_heads": 64, "num_key_value_heads": 4,
    "head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8, "decoder_sparse_step": 1, "mlp_only_layers": [],
    "vocab_size": 151936, "max_position_embeddings": 40960, "tie_word_embeddings": False, "norm_topk_prob": True,
}  # fmt: skip
DEEPSEEK = {
    "model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"], "hidden_size": 7168,
    "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_hidden_layers": 61, "num_attention_heads": 128,
    "num_key_value_heads": 128, "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8, "n_group": 8,
    "topk_group": 4, "first_k_dense_replace": 3, "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64, "v_head_dim": 128, "vocab_size": 129280, "max_position_embeddings": 163840,
    "tie_word_embeddings": False, "rope_theta": 10000, "quantization_config": {"quant_method": "fp8", "fmt": "e4m3"},
    "rope_scaling": {"type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0,
                     "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096},
}  # fmt: skip
RUN = """
import sys
from lpz_cli.main import run
code = run(sys.argv[1:])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.integration
@pytest.mark.parametrize(
    ("config", "parameters", "layers", "active"),
    [(LLAMA, 6_738_415_616, 32, 6.7e9), (DEEPSEEK, 671_026_404_352, 61, 37e9),
     pytest.param(QWEN3, 8_190_735_360, 36, 7.6e9, marks=pytest.mark.slow),
     pytest.param(QWEN3_MOE, 235_093_634_560, 94, 22e9, marks=pytest.mark.slow)],
)  # fmt: skip
def test_published_configurations_are_counted_in_little_memory(
    config: dict[str, object], parameters: int, layers: int, active: float, tmp_path: Path
) -> None:
    """FLOPs per token are about the active parameters, as they are published."""
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    flags = [argument for name in (*COUNTS, "flops") for argument in ("-p", name)]
    command = [sys.executable, "-c", RUN, "score", str(tmp_path), *flags, "--batch-size", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = {row["proxy"]: row["value"] for row in json.loads(done.stdout)["models"][0]["scores"]}
    assert (rows["params"], rows["num_layers"]) == (parameters, layers)
    assert rows["flops"] / 128 == pytest.approx(active, rel=0.1)
    assert int(done.stderr.splitlines()[-1]) * 1024 < 10**9


def test_no_minibatch_is_made_where_no_proxy_uses_one(
    lpz: Lpz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    AutoConfig.for_model("gpt2", **SMALL).save_pretrained(tmp_path)
    flags = [argument for name in (*COUNTS, "l2_norm") for argument in ("-p", name)]
    assert lpz("score", str(tmp_path), "-p", "flops")[0] == 1  # its text does not fit the vocabulary

    def refuse(*arguments: object, **more: object) -> None:
        raise AssertionError("a minibatch was asked for")

    monkeypatch.setattr("lpzero_hf.models.minibatch.minibatch", refuse)
    monkeypatch.setattr("lpzero_hf.scoring.setting.minibatch", refuse)
    code, out, _ = lpz("score", str(tmp_path), *flags, "--json")
    document = json.loads(out)["models"][0]
    assert (code, document["batch_size"], document["seq_len"]) == (0, None, None)
    assert {row["status"] for row in document["scores"]} == {"ok"}
    assert lpz("score", str(tmp_path), *flags)[0] == 0
    assert lpz("score", str(tmp_path), *flags, "--plan")[0] == 0
    config = AutoConfig.for_model("gpt2", **SMALL)
    assert rank({"a": config}, list(COUNTS), setting=Setting(seq_len=5000))[0].rank == pytest.approx(1)


@pytest.mark.parametrize("lazy", [True, False])
def test_scores_without_a_minibatch_are_those_with_one(lazy: bool) -> None:
    model = build_model(AutoConfig.for_model("gpt2", **SMALL), lazy=lazy)
    names = [*COUNTS, "l2_norm"]
    ids = torch.arange(8).unsqueeze(0)
    with_one, without = score(model, {"input_ids": ids}, names), score(model, None, names)
    assert [row.value for row in with_one.rows] == [row.value for row in without.rows]
    estimate = estimate_memory(model, None, resolve(names), layout_of(model))
    assert estimate.requires == "weights"


def test_a_proxy_that_uses_the_minibatch_asks_for_it() -> None:
    model = build_model(AutoConfig.for_model("gpt2", **SMALL))
    for name in ("flops", "snip", "synflow"):
        with pytest.raises(UsageError, match=name):
            score(model, None, name)

    def tokens(subject: Subject) -> float:
        return float(subject.batch["input_ids"].numel())

    undeclared = ModelProxy(name="tokens", formula="tokens", evaluate=tokens, shapes_only=True)
    row = score(model, None, undeclared)["tokens"]
    assert row.status == "failed"
    assert MinibatchError.__name__ in row.reason
    assert "needs=" in row.reason
    assert score(model, {"input_ids": torch.arange(8).unsqueeze(0)}, undeclared)["tokens"].require() == 8
