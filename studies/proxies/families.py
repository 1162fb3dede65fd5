"""What is read of every model type of transformers that can be built small, and what is said of the rest.

    python -m studies.proxies.families [--types TYPE ...] [--out FILE]

Every type with a language-model head is built from a small version of its default configuration, with random
weights, and scored with all installed proxies, each in a process of its own. A type is *whole* if every value is of the
whole network, *partly* if some say what they leave out, and *refused* if nothing is scored, with the reason. Beside
that, hooks of this study's own note every linear layer that runs in a list of modules: one that no reduction read and
no note mentions is *unsaid*, and makes the command fail.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import resource
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, PreTrainedModel
from transformers.models.auto import modeling_auto
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging

from lpzero_hf import minibatch, score
from lpzero_hf.capture.capture import capture
from lpzero_hf.capture.spec import Reduction
from lpzero_hf.errors import LpzError, one_line
from lpzero_hf.files import write_text
from lpzero_hf.models.build import build_model
from lpzero_hf.models.layout import ModelLayout, layout_of
from lpzero_hf.models.objective import run_model, with_labels
from lpzero_hf.models.running import running_layout
from tests.support.families import FAMILIES
from tests.support.small_configs import small_config

SECONDS, PARAMETERS, MEMORY = 120, 20_000_000, 6 * 2**30
ORDER = ("partly", "refused", "whole", "too large", "not built")
COUNTS = {"params", "decoder_params", "attention_params", "num_layers", "num_heads", "flops"}
HEADS = ("CAUSAL_LM", "MASKED_LM", "SEQ_TO_SEQ_CAUSAL_LM", "IMAGE_TEXT_TO_TEXT")


def one(*_: torch.Tensor) -> torch.Tensor:
    """Counts a site."""
    return torch.tensor(1.0)


SITES = {
    "W": Reduction("linear", ("W", "G"), one),
    "A": Reduction("linear", ("A", "J"), one),
    "H": Reduction("mixer", ("H", "dH"), one),
    "S": Reduction("attention", ("S",), one),
}


@dataclass
class Read:
    """What was read of one model type.

    Args:
        model_type: as transformers calls it.
        verdict: "whole", "partly", "refused", "too large" or "not built".
        said: reasons and notes, with the number of proxies that give each.
        sites: the number of values of every reduction of `SITES`.
        unsaid: layers that ran, were not read and are not mentioned.
    """

    model_type: str
    verdict: str
    model: str = ""
    layers: float | None = None
    said: dict[str, int] = field(default_factory=dict)
    sites: dict[str, int] = field(default_factory=dict)
    unsaid: list[str] = field(default_factory=list)


def model_types() -> list[str]:
    """Every model type with a head that reads or writes text."""
    names = (name for head in HEADS for name in getattr(modeling_auto, f"MODEL_FOR_{head}_MAPPING_NAMES"))
    return list(dict.fromkeys([*FAMILIES, *names]))


def read(model_type: str) -> Read:
    """Build and score one model type."""
    try:
        known = FAMILIES.get(model_type)
        config = small_config(model_type) if known is None else AutoConfig.for_model(model_type, **known)
        size = sum(p.numel() for p in build_model(config, lazy=True).parameters())
        if size > PARAMETERS:
            return Read(model_type, "too large", said={f"{size:,} parameters": 1})
        model = build_model(config)
    except Exception as error:
        return Read(model_type, "not built", said={one_line(error): 1})
    try:
        batch = minibatch(model, batch_size=3, seq_len=16)
        scores = score(model, batch, "all")
    except LpzError as error:
        return Read(model_type, "refused", type(model).__name__, said={str(error): 1})
    telling = [row for row in scores.rows if row.status != "invalid" and not row.reason.startswith("hangs on rounding")]
    said = Counter(row.reason for row in telling if row.reason)
    nothing = all(row.status != "ok" for row in scores.rows if row.proxy not in COUNTS)
    verdict = "refused" if nothing else "partly" if said else "whole"
    layout = running_layout(model, layout_of(model), batch, 42)
    made = capture(model, batch, list(SITES.values()), layout)
    sites = {name: len(made.values[reduction]) for name, reduction in SITES.items()}
    read_here = {value.site for value in made.values[SITES["A"]]}
    mentioned = SITES["A"] in made.notes or SITES["A"] in made.failures
    unsaid = [] if mentioned or nothing else [n for n in linears_run(model, batch, layout) if n not in read_here]
    layers = scores["num_layers"].value
    return Read(model_type, verdict, type(model).__name__, layers, dict(said.most_common()), sites, unsaid)


def linears_run(model: PreTrainedModel, batch: dict[str, Any], layout: ModelLayout) -> list[str]:
    """Names of the weights of linear layers that run in a block, or in another list of modules."""
    inside = {id(module) for block in layout.blocks for module in block.module.modules()}
    names: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, n=name: names.append(f"{n}.weight"))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        and (id(module) in inside or any(part.isdigit() for part in name.split(".")))
    ]
    with torch.no_grad():
        run_model(model, with_labels(model, batch, 42))
    for handle in handles:
        handle.remove()
    return list(dict.fromkeys(names))


def _work(model_type: str, answer: Connection) -> None:
    logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    answer.send(read(model_type))


def read_all(types: list[str]) -> Iterator[Read]:
    """`read` of every type, each in a process of its own."""
    context = multiprocessing.get_context("fork")
    for model_type in types:
        receiving, sending = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(model_type, sending), daemon=True)
        process.start()
        sending.close()
        try:
            if not receiving.poll(SECONDS):
                raise TimeoutError(f"not finished after {SECONDS} s")
            yield receiving.recv()
        except (EOFError, TimeoutError) as error:
            yield Read(model_type, "refused", said={str(error) or f"its process died ({process.exitcode})": 1})
        finally:
            process.kill()
            process.join()


def page(found: list[Read]) -> str:
    """The results as Markdown."""
    verdicts = Counter(one.verdict for one in found)
    scored = verdicts["whole"] + verdicts["partly"] + verdicts["refused"]
    lines = [
        "# What is read of every model type",
        "",
        f"Of {len(found)} model types with a head for text, {scored} could be built small: {verdicts['whole']} are "
        f"scored whole, {verdicts['partly']} partly, {verdicts['refused']} refused. In "
        f"{sum(bool(r.unsaid) for r in found)} a layer that ran was neither read nor mentioned. Made by "
        "`python -m studies.proxies.families`.",
        "",
        f"| type | class | verdict | layers | {' | '.join(SITES)} | said (number of proxies) |",
        "|---|---|---|--:|" + "--:|" * len(SITES) + "---|",
    ]
    for r in sorted(found, key=lambda r: (list(ORDER).index(r.verdict), r.model_type)):
        said = "; ".join(f"{reason} ({number})" for reason, number in r.said.items())
        said = re.sub(r"([\\[\]<>*_`])", r"\\\1", said.replace("|", "/"))  # no Markdown
        counts = " | ".join(str(r.sites.get(name, "")) for name in SITES)
        layers = "" if r.layers is None else f"{r.layers:g}"
        lines.append(f"| {r.model_type} | {r.model} | {r.verdict} | {layers} | {counts} | {said} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the page; 1 if a layer passed unsaid."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--types", nargs="*", default=None, help="only these model types")
    parser.add_argument("--out", type=Path, default=None, help="also write the page to this file")
    arguments = parser.parse_args()
    found = []
    for one_type in read_all(arguments.types or model_types()):
        found.append(one_type)
        print(
            f"{len(found):4} {one_type.model_type}: {one_type.verdict} {' '.join(one_type.unsaid[:3])}", file=sys.stderr
        )
    text = page(found)
    print(text)
    if arguments.out is not None:
        write_text(arguments.out, text)
    unsaid = {r.model_type: r.unsaid for r in found if r.unsaid}
    for model_type, names in unsaid.items():
        print(f"unsaid: {model_type}: {', '.join(names[:5])}", file=sys.stderr)
    return 1 if unsaid else 0


if __name__ == "__main__":
    sys.exit(main())
