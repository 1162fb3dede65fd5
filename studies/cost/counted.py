"""Costs of architectures against torch's own counters, and whether measured latencies keep one order.

    python -m studies.cost.counted [--json FILE] [--repeats 3]

FLOPs are compared with torch's `FlopCounterMode`, memory with the most that torch's allocator held in its profiler, of
a model of each family that runs on this machine. Latencies are of three GPT-2, each measured in several rounds. Their
overhead is the time of a whole measurement over that of its timed passes: building, warm-up and, of decoding, the
prefill and copies of the cache.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lpz_costs.serving import cache_of, prefill, prompts, step
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, GPT2Config

from lpzero_hf.models.build import build_model
from lpzero_hf.models.kernels import plain_kernels
from lpzero_hf.models.objective import head_kind
from lpzero_hf.scoring.costs import Deployment, measure_costs
from studies.machine import machine
from studies.markdown import table
from studies.study import write_records
from tests.support.families import FAMILIES

COUNTED = ("gpt2", "llama", "bert", "t5", "mixtral", "mamba", "gemma3_text", "opt", "bloom", "deepseek_v3", "falcon")
PROMPTS = Deployment(batch_size=3, prompt=24)
LATENCIES = ("latency", "decode_latency")
SHAPES = ((1, 32), (2, 256), (4, 512))  # layers and width of three GPT-2


def operations(model: Any, inputs: dict[str, torch.Tensor]) -> tuple[int, int]:
    """What torch counts of a prefill and of a decoding step, with attention and experts as matrix products: it does not
    know the fused kernels of a CPU."""
    counts = []
    with torch.no_grad(), plain_kernels(model):
        with FlopCounterMode(display=False) as counter:
            output = prefill(model, inputs)
        counts.append(counter.get_total_flops())
        cache = None if head_kind(model) == "masked" else cache_of(output)
        with FlopCounterMode(display=False) as counter:
            if cache is not None:
                step(model, inputs, output, cache)
        counts.append(counter.get_total_flops())
    return counts[0], counts[1]


def measured_peak(model: Any, inputs: dict[str, torch.Tensor]) -> int:
    """The most bytes that torch's allocator held at a time in a prefill and a decoding step, by torch's profiler."""
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        output = prefill(model, inputs)
        cache = None if head_kind(model) == "masked" else cache_of(output)
        if cache is not None:
            step(model, inputs, output, cache)
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def counted(family: str, vocabulary: int) -> dict[str, Any]:
    """The FLOPs and the memory of tensors of a small model of a family: as counted from its configuration, and as
    torch counts when it runs."""
    config = AutoConfig.for_model(family, **(FAMILIES[family] | {"vocab_size": vocabulary}))
    rows = measure_costs(config, ["flops", "decode_flops", "memory", "weights"], PROMPTS)
    model = build_model(config)
    inputs = prompts(model, PROMPTS.batch_size, PROMPTS.prompt or 128, PROMPTS.seed)
    whole, decoded = operations(model, inputs)
    return {
        "family": family,
        "vocabulary": vocabulary,
        "flops": [rows["flops"].value, whole],
        "decode_flops": [rows["decode_flops"].value, decoded],
        "memory": [rows["memory"].require() - rows["weights"].require(), measured_peak(model, inputs)],
    }


def latencies(rounds: int, repeats: int = 10, shapes: tuple[tuple[int, int], ...] = SHAPES) -> list[dict[str, Any]]:
    """Of each round and kind of latency: the medians of the models in seconds, the seconds of the timed passes and
    of the whole measurement, and warnings of other work."""
    ends: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 0}
    configs = [GPT2Config(n_layer=n, n_embd=d, n_head=4, vocab_size=500, n_positions=80, **ends) for n, d in shapes]
    found = []
    for number in range(rounds):
        for name in LATENCIES:
            how = Deployment(prompt=64, batch_size=2, repeats=repeats, warmup=2, seed=number)
            start = time.perf_counter()
            rows = [measure_costs(config, [name], how)[name] for config in configs]
            whole = time.perf_counter() - start
            timed = sum(row.require() * repeats for row in rows)
            warned = sorted({warning for row in rows for warning in row.warnings})
            found.append(
                {"round": number, "cost": name, "seconds": [row.require() for row in rows],
                 "quartiles": [[row.low, row.high] for row in rows], "timed": timed, "whole": whole, "warnings": warned}
            )  # fmt: skip
    return found


def off(pair: list[float | None]) -> float | None:
    """How far the count is from what torch has, as a share of it; None where there is none."""
    ours, theirs = pair
    return None if ours is None or not theirs else ours / theirs - 1


def section(data: Mapping[str, Any]) -> str:
    """Both tables, and what they say."""

    def cell(pair: list[float | None]) -> str:
        one = off(pair)
        return "—" if one is None else f"{round(one, 4) + 0.0:+.2%}"

    rows = [[r["family"], f"{r['vocabulary']:,}", *(cell(r[k]) for k in ("flops", "decode_flops", "memory"))]
            for r in data["counted"]]  # fmt: skip
    most = {k: max(abs(off(r[k]) or 0.0) for r in data["counted"]) for k in ("flops", "decode_flops", "memory")}
    order = [one["seconds"] == sorted(one["seconds"]) for one in data["latencies"]]
    timed, whole = (sum(one[key] for one in data["latencies"]) for key in ("timed", "whole"))
    busy = sum(bool(one["warnings"]) for one in data["latencies"])
    measured = [
        [one["cost"], str(one["round"] + 1), *(f"{1000 * value:.2f}" for value in one["seconds"])]
        for one in data["latencies"]
    ]
    heads = [f"GPT-2 {layers} x {width}, ms" for layers, width in SHAPES]
    return (
        "### Costs against torch's counters\n\n"
        f"`python -m studies.cost.counted`, small models of {len({r['family'] for r in data['counted']})} families, "
        "with few and with many word vectors. FLOPs of a prefill and of one decoding step against `FlopCounterMode`, "
        "memory of tensors against the most that torch's allocator held.\n\n"
        f"{table(['family', 'vocabulary', 'FLOPs', 'of a step', 'memory'], rows)}\n\n"
        f"The largest differences: {most['flops']:.2%}, {most['decode_flops']:.2%} and {most['memory']:.1%}.\n\n"
        f"### Latency\n\nThree GPT-2, one thread, 2 x 64 tokens, medians of 10 passes.\n\n"
        f"{table(['cost', 'round', *heads], measured, left=2)}\n\n"
        f"The order was the same in {sum(order)} of {len(order)}. The timed passes took {timed:.1f} s, and the "
        f"measurements {whole:.1f} s in all, {whole / timed:.1f} times as long. Other work was told "
        f"of in {busy} of {len(order)}."
    )


def main() -> None:
    """Measure, print the section, and keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = {
        "machine": machine(),
        "counted": [counted(family, vocabulary) for family in COUNTED for vocabulary in (64, 4200)],
        "latencies": latencies(arguments.repeats),
    }
    if arguments.json:
        write_records(arguments.json, data)
    print(section(data))


if __name__ == "__main__":
    main()
