"""What lpzero-hf costs in time and memory: the results of the measurements in this folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lpzero_hf.files import read_json
from studies.cost.counted import section as counted_section
from studies.cost.on_gpu import sections
from studies.cost.real_models import section as real_models
from studies.cost.sizes import SIZES, TASKS, figure_of, llama
from studies.markdown import table
from studies.study import Runs, Study

RESULTS = Path(__file__).parent / "results"


class CostStudy(Study):
    """Scaling over workers and architectures, and models of growing size."""

    name = "costs"
    title = "How cost grows"
    figures = ("sizes",)

    def show(self, runs: Runs) -> str:
        """A table for each measurement, with the command that repeats it."""
        return "\n\n".join(
            [
                _scaling(_read("scaling")),
                _sizes(_read("sizes")),
                _large(),
                counted_section(_read("counted")),
                *([real_models(_read("real_models"))] if (RESULTS / "real_models.json").exists() else []),
                *sections(RESULTS),
            ]
        )

    def draw(self, runs: Runs) -> Mapping[str, Any]:
        """Time and memory over parameters."""
        return {"sizes": figure_of(_read("sizes")["rows"])}


def _read(name: str) -> Any:
    return read_json(RESULTS / f"{name}.json", f"make it: `python -m studies.cost.{name} --json FILE`")


def _scaling(data: Mapping[str, Any]) -> str:
    machine = data["machine"]
    rows = [
        [
            row["work"],
            row["scaling"],
            str(row["workers"]),
            str(row["architectures"]),
            f"{row['all']:.1f}",
            f"{row['steady']:.1f}",
            *(f"{row[key]:.2f}" if key in row else "" for key in ("efficiency_all", "efficiency_steady")),
        ]
        for row in data["rows"]
    ]
    heads = ["work", "scaling", "workers", "architectures", "s in all", "s steady", "efficiency in all", "steady"]
    fits = "; ".join(
        f"{work}: {fit['intercept']:.1f} s + {fit['slope']:.3f} s for each architecture, R² {fit['r2']:.4f}"
        for work, fit in data["cost"].items()
    )
    return (
        "### Over workers and architectures\n\n"
        f"`python -m studies.cost.scaling`, {data['options']['benchmark']}, {machine['cores']} cores, "
        f"{machine['processor']}, torch {machine['torch']}; medians of {data['options']['repeats']}. `steady` leaves "
        "out the seconds in which workers start and import torch and transformers; they matter little in a "
        "long run.\n\n"
        f"{table(heads, rows, left=2)}\n\nCost is linear in the number of architectures. {fits}."
    )


def _sizes(data: Mapping[str, Any]) -> str:
    rows = [
        [
            row["size"],
            row["task"],
            f"{row['parameters']:,}",
            f"{row['seconds']:.1f}",
            f"{row['seconds'] / row['parameters'] * 1e9:.0f}",
            f"{row['peak_bytes'] / 2**20:,.0f}",
        ]
        for row in data["rows"]
    ]
    heads = ["model", "proxies of", "parameters", "s", "s per billion", "peak MiB"]
    slopes = ", ".join(f"{task} {data['slopes'][task]:.2f}" for task in TASKS if data["slopes"].get(task) is not None)
    return (
        "### Over the size of a model\n\n"
        f"`python -m studies.cost.sizes`, Llama shapes, {data['minibatch'][0]} x {data['minibatch'][1]} tokens, "
        f"{data['threads']} thread, each in a process of its own; backward passes in bfloat16 with checkpointing. "
        "`linear backward` leaves out the proxies that decompose every weight or gradient, which is cubic in the width "
        f"(`synaptic_diversity`, `synaptic_diversity_lpzero`, `eznas`).\n\n{table(heads, rows, left=2)}\n\n"
        f"Seconds grow with the parameters to the power of: {slopes}; 1 is linear. {_within(data['rows'])}"
    )


def _within(rows: Sequence[Mapping[str, Any]]) -> str:
    """How the linear backward pass grows with the parameters of the blocks, which are what it reads."""
    found = {row["size"]: row for row in rows if row["task"] == "linear backward"}
    small, large = found["100M"], found["1B"]
    inside = [row["parameters"] - 2 * llama(row["size"]).vocab_size * SIZES[row["size"]][0] for row in (small, large)]
    shares = [count / row["parameters"] for count, row in zip(inside, (small, large), strict=True)]
    return (
        "None of these proxies reads the weights of embedding and head. The share of the blocks grows with the model, "
        f"from {shares[0]:.0%} at 100M to {shares[1]:.0%} at 1B. Between these two, `linear backward` takes "
        f"{large['seconds'] / small['seconds']:.1f} times as long for {inside[1] / inside[0]:.1f} times as many "
        "parameters in blocks."
    )


def _large() -> str:
    seven, one = _read("llama_7b_weights"), _read("llama_1b_backward")
    return (
        "### Large models on a small machine\n\n"
        f"- Llama-7B shape ({seven['scores']['params']:,} parameters, {seven['dtype']}), `l2_norm`, `params` and "
        f"`flops`: peak {seven['peak_rss_mib_by_getrusage'] / 1024:.1f} GiB. {seven['what']}.\n"
        f"- Llama-1B shape ({one['parameters']:,} parameters, {one['dtype']}), {one['proxies']} proxies with all that "
        f"share one backward pass: peak {one['peak_bytes'] / 2**30:.1f} GiB, {one['cpu_seconds']:.0f} CPU seconds. "
        f"`{one['command']}`."
    )
