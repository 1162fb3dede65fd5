"""The planner: its estimates against measured peaks, and its refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from lpzero_hf import load_model, minibatch
from lpzero_hf.models.layout import layout_of
from lpzero_hf.models.memory import available_bytes
from lpzero_hf.plugins import load_plugins
from lpzero_hf.proxies.resolve import find_proxy
from lpzero_hf.scoring.memory_estimate import DoesNotFit, MemoryEstimate, estimate_memory
from tests.support.families import FAMILIES, JETMOE, tiny_model

Lpz = Callable[..., tuple[int, str, str]]


def planned(*names: str, checkpointing: bool = False, micro_batch: int | None = None) -> MemoryEstimate:
    """The plan of some proxies on a zoo model."""
    plugins = load_plugins()
    model = load_model("gpt2-variant", lazy=True).model
    proxies = [find_proxy(name, plugins) for name in names]
    return estimate_memory(
        model,
        minibatch(model),
        proxies,
        layout_of(model, plugins),
        checkpointing=checkpointing,
        micro_batch=micro_batch,
    )


def test_what_is_needed_decides_the_plan() -> None:
    shapes, weights, model = planned("params", "flops"), planned("params", "l2_norm"), planned("snip")
    assert (shapes.requires, weights.requires, model.requires) == ("shapes", "weights", "model")
    assert shapes.bytes == 0 < weights.bytes < model.weights < model.bytes
    assert planned("snip", checkpointing=True).bytes < 0.7 * model.bytes


def test_a_refusal_names_the_argument_that_would_make_it_fit() -> None:
    roomy = planned("snip")
    tight = replace(roomy, available=roomy.bytes - 1)
    with pytest.raises(DoesNotFit, match="`checkpointing=True`"):
        tight.check()
    with pytest.raises(DoesNotFit, match="only proxies"):
        replace(roomy, available=1).check()
    replace(roomy, available=roomy.bytes).check()


def test_free_memory_is_the_less_of_machine_and_control_group(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    assert available_bytes(cpu, tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    4 kB\n")
    assert available_bytes(cpu, tmp_path) == 4096
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("3000\n")
    (group / "memory.current").write_text("1000\n")
    assert available_bytes(cpu, tmp_path) == 2000
    (group / "memory.stat").write_text("anon 100\ninactive_file 700\nactive_file 100\n")
    assert available_bytes(cpu, tmp_path) == 2700
    (group / "memory.max").write_text("max\n")
    assert available_bytes(cpu, tmp_path) == 4096
    (group / "memory").mkdir()
    (group / "memory/memory.limit_in_bytes").write_text("3000\n")
    (group / "memory/memory.usage_in_bytes").write_text("1000\n")
    assert available_bytes(cpu, tmp_path) == 2000
    (group / "memory/memory.stat").write_text("inactive_file 1\ntotal_inactive_file 500\n")
    assert available_bytes(cpu, tmp_path) == 2500


def test_the_command_plans_refuses_and_can_be_forced(lpz: Lpz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_model("gpt2").config.save_pretrained(tmp_path)
    small = (str(tmp_path), "-p", "snip", "--batch-size", "2", "--seq-len", "16")
    document = json.loads(lpz("score", *small, "--plan", "--json")[1])["models"][0]
    assert document["plan"]["requires"] == "model"
    assert "scores" not in document
    assert "it fits" in lpz("score", *small, "--plan")[1]
    monkeypatch.setattr("lpzero_hf.scoring.memory_estimate.available_bytes", lambda device: 1)
    code, out, err = lpz("score", *small)
    assert (code, out) == (1, "")
    assert "--force" in err
    assert lpz("score", *small, "--force")[0] == 0
    assert lpz("score", *small[:1], "-p", "params", "--batch-size", "2")[0] == 0


@pytest.mark.parametrize(("family", "whole"), [("jetmoe", True), ("mixtral", False), ("llama", False)])
def test_a_family_that_cannot_do_with_shapes_is_planned_for_as_a_whole(
    lpz: Lpz, tmp_path: Path, family: str, whole: bool
) -> None:
    AutoConfig.for_model(family, **(FAMILIES | {"jetmoe": JETMOE})[family]).save_pretrained(tmp_path)
    small = ("score", str(tmp_path), "-p", "flops", "-p", "params", "--batch-size", "2", "--seq-len", "16")
    document = json.loads(lpz(*small, "--plan", "--json")[1])["models"][0]["plan"]
    assert document["requires"] == ("model" if whole else "shapes")
    assert (document["weights"] > 0) == whole
    assert ("'flops'" in document["fallback"]) == whole
    assert [need["name"] for need in document["passes"]] == (["flops"] if whole else [])
    code, _, err = lpz(*small)
    assert code == 0
    assert ("JetMoeForCausalLM" in err) == whole


def test_a_proxy_that_runs_in_parts_needs_the_memory_of_one() -> None:
    model, plugins = load_model("gpt2-variant", lazy=True).model, load_plugins()

    def needed(sequences: int) -> int:
        batch = minibatch(model, batch_size=sequences, seq_len=64)
        (need,) = estimate_memory(model, batch, [find_proxy("grasp", plugins)], layout_of(model, plugins)).passes
        return need.activations

    assert needed(4) * 1.9 < needed(8)
    assert needed(32) == pytest.approx(needed(8), rel=0.02)  # 512 tokens


def test_micro_batches_are_planned_for() -> None:
    whole, part = planned("snip"), planned("snip", micro_batch=2)
    assert part.passes[0].activations < 0.2 * whole.passes[0].activations
    assert part.passes[0].copies == 4 * part.footprint.parameters  # the gradients that are summed
    assert planned("fisher", micro_batch=2).passes[0].activations > planned("snip", micro_batch=2).passes[0].activations


# A process starts with the peak of the one that made it in `ru_maxrss`, so its own high-water mark is read.
MEASURE = """
from lpzero_hf import load_model, minibatch, score
status = lambda: dict(line.split(":", 1) for line in open("/proc/self/status"))
peak = lambda: int(status()["VmHWM"].split()[0]) * 1024
small = load_model("gpt2-variant").model
score(small, minibatch(small, batch_size=1, seq_len=8), "snip")
before = peak()
model = load_model("gpt2-variant").model
score(model, minibatch(model), "snip", checkpointing={})
print(peak() - before)
"""


@pytest.mark.integration
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_estimate_is_within_a_factor_of_the_measured_peak(checkpointing: bool) -> None:
    out = subprocess.run(
        [sys.executable, "-c", MEASURE.format(checkpointing)], check=True, capture_output=True, text=True
    )
    measured = int(out.stdout)
    assert measured / 2 < planned("snip", checkpointing=checkpointing).bytes < 2 * measured
