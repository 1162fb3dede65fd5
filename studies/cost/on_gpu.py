"""What was measured on a GPU, as text: of every file that `studies.cost.owed` has made, and nothing of the others."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lpzero_hf.files import read_json
from studies.markdown import table

Document = Mapping[str, Any]


def sections(folder: Path) -> list[str]:
    """A section for each file in `folder`."""
    shown: Sequence[tuple[str, str, Callable[[Document], Sequence[str]]]] = (
        ("gpu_agreement", "### A GPU against the CPU", _agreement),
        ("gpu_search", "### A search on a GPU", _search),
        ("gpu_large", "### Large models on a GPU", _large),
        ("gpu_evolution", "### Evolution in generations on a GPU", _evolution),
    )
    found = []
    for name, heading, text in shown:
        file = folder / f"{name}.json"
        if file.exists():
            document = read_json(file, "make it: `python -m studies.cost.owed --out FOLDER`")
            found.append("\n\n".join([heading, _made(document), *text(document), *_unfinished(document)]))
    return found


def _made(document: Document) -> str:
    machine = document["machine"]
    card = f"{machine['card']}, driver {machine['driver']}" if "card" in machine else "no GPU, tried on the CPU"
    versions = f"torch {machine['torch']}, transformers {machine['transformers']}, Python {machine['python']}"
    return f"`{document['command']}`, {document['made']}: {card}, {versions}."


def _unfinished(document: Document) -> list[str]:
    if document["complete"]:
        return []
    return [f"Not finished: {document['error']}." if "error" in document else "Not finished."]


def _agreement(document: Document) -> list[str]:
    rows = [
        [
            row["proxy"],
            str(row["scores"]),
            f"{row['difference']:.1e}",
            row["of"],
            "" if row["lowest_rho"] is None else f"{row['lowest_rho']:.3f}",
            f"{row['ranks_equal']} of {row['families_ranked']}",
            str(len(row["apart"])),
        ]
        for row in document.get("proxies", ())
    ]
    heads = ["proxy", "scores", "largest difference", "in", "lowest rho", "families with equal ranks", "other status"]
    batch = " x ".join(map(str, document.get("minibatch", ())))
    parts = [
        f"All proxies on {document.get('models', 0)} architectures of each of {len(document.get('families', ()))} "
        f"families, minibatch {batch}, float32 without TF32, weights drawn on the CPU. A difference is that of two "
        "scores of one model, as a fraction of the largest in its family; rho is Spearman's, of the scores on both. "
        f"The tolerance is {document.get('tolerance', 0):g}"
        + "".join(f", of `{name}` {value:g}" for name, value in document.get("fragile", {}).items())
        + f"; {len(document.get('disagree', ()))} of the comparisons are outside.\n\n{table(heads, rows)}"
    ]
    if made := document.get("table"):
        equal = "equal" if made["counts_equal"] else "different"
        parts.append(
            f"Branch tables of {made['architectures']} architectures: counts are {equal}, and "
            f"{made['share_equal']:.2%} of {made['entries']:,} entries agree to a thousandth"
            + (
                f", and {made['share_of_steady_equal']:.2%} of the {made['steady']:,} that are the same in float64 on "
                "the CPU; the others nearly cancel."
                if "steady" in made
                else ". The others are sums that nearly cancel."
            )
        )
    if made := document.get("search"):
        parts.append(
            f"An exhaustive search on {made['searched_on']} architectures of {made['benchmark']}: the best fitness is "
            f"{made['device']['fitness']:.6f} on the device and {made['cpu']['fitness']:.6f} on the CPU; of the "
            f"{made['fittest']} fittest expressions, {made['fittest_in_common']} are the same."
        )
    return parts


def _search(document: Document) -> list[str]:
    parts = []
    if "architectures" in document:
        rows = [[phase, f"{seconds:.1f}"] for phase, seconds in document["seconds"].items()]
        evaluated = f", {document['evaluated']:,} distinct expressions evaluated" if "evaluated" in document else ""
        parts.append(
            f"{document['architectures']} architectures of {document['benchmark']}, unary operations in a branch: "
            f"{document['unary']}{evaluated}.\n\n{table(['phase', 's'], rows)}"
        )
        if document.get("done", 0) < document.get("total", 0):
            parts.append(f"Time was up after {document['done'] / document['total']:.0%} of the space.")
    if gemm := document.get("gemm"):
        parts.append(
            f"The Gram matrix of one site ({gemm['rows']} x {gemm['elements']:,}) runs at {gemm['tflops']:.1f} "
            f"TFLOP/s, {gemm['share']:.0%} of a large square product in the same precision "
            f"({gemm['peak_tflops']:.1f} TFLOP/s)."
        )
    if ranks := document.get("ranks"):
        parts.append(
            f"Ranks of {ranks['architectures']} architectures by {ranks['expressions']:,} random expressions, against "
            f"tables made on the CPU: rho has the median {ranks['median']:.6f} and is at least {ranks['lowest']:.6f}, "
            "that of an expression that sums what nearly cancels."
        )
    return parts


def _large(document: Document) -> list[str]:
    models, rows = document.get("models", ()), []
    for model in models:
        for what, seconds in model["seconds"].items():
            over = model["over_plain"].get(what, {"seconds": 1.0, "peak": 1.0})
            peak = model["peak_bytes"][what]
            rows.append(
                [
                    model["size"],
                    "plain pass" if what == "plain" else f"{model['proxies'][what]} proxies",
                    "" if what == "plain" else ("yes" if model["checkpointing"] else "no"),
                    f"{model['parameters']:,}",
                    str(len(seconds)),
                    f"{statistics.median(seconds):.2f}",
                    f"{over['seconds']:.2f}",
                    "" if peak is None else f"{peak / 2**30:.1f}",
                    "" if over["peak"] is None else f"{over['peak']:.2f}",
                ]
            )
    heads = [
        "model",
        "what",
        "checkpointing",
        "parameters",
        "runs",
        "median s",
        "over plain",
        "peak GiB",
        "over plain ",
    ]
    sizes = {" x ".join(map(str, model["minibatch"])) for model in document.get("models", ())}
    parts = [
        f"Llama shapes in bfloat16, minibatch {', '.join(sorted(sizes))}, weights drawn on the device. A plain pass is "
        "forward and backward with all activations and gradients kept. The smaller number of proxies leaves out "
        f"those that decompose every weight or gradient.\n\n{table(heads, rows, left=3)}"
    ]
    parts += [
        f"{model['size']}, left out: {model['left_out']}."
        for model in document.get("models", ())
        if "left_out" in model
    ]
    failed = {f"`{name}`: {why}" for model in document.get("models", ()) for name, why in model["failed"].items()}
    return parts + ([f"Failed: {'; '.join(sorted(failed))}."] if failed else [])


def _evolution(document: Document) -> list[str]:
    rows = []
    if made := document.get("store"):
        rows.append(["4 + 4 operations, from the store, in generations", f"{made['evaluated'] / made['seconds']:,.1f}"])
    for name, rate in document.items():
        if name.startswith("passes, "):
            rows.append([f"4 + 4 operations, by {name}", f"{rate:,.2f}"])
    made = document.get("tables", {})
    for name in ("one by one", "together"):
        if name in made:
            rows.append([f"{made['unary']} + {made['unary']} operations, from tables, {name}", f"{made[name]:,.0f}"])
    parts = [table([f"{document.get('architectures', 0)} architectures", "candidates a second"], rows)]
    if made.get("evolutions"):
        best = [run["best"] for run in made["evolutions"]]
        text = (
            f"Evolutions of {made['evolutions'][0]['course'][-1][0]:,} candidates end at {min(best):.4f} to "
            f"{max(best):.4f} after {statistics.median(run['seconds'] for run in made['evolutions']):.0f} s (median)"
        )
        if whole := made.get("enumeration"):
            text += f"; an enumeration of {whole['evaluated']:,} at {whole['best']:.4f} after {whole['seconds']:.0f} s"
        parts.append(text + ".")
    return parts
