"""Which statistics each model family shows, on tiny random models.

    python -m studies.proxies.families

Prints a Markdown table: layers and heads as counted, at how many sites W and G, A and J, H and S are read,
and how many of the installed proxies give a finite score. Proxies that do not apply are named.
"""

from __future__ import annotations

import torch
from transformers.utils import logging

from lpzero_hf import minibatch, score
from lpzero_hf.capture.capture import capture
from lpzero_hf.capture.spec import Reduction
from lpzero_hf.models.layout import layout_of
from tests.support.families import FAMILIES, tiny_model


def one(*_: torch.Tensor) -> torch.Tensor:
    """Counts a site."""
    return torch.tensor(1.0)


SITES = {
    "W, G": Reduction("linear", ("W", "G"), one),
    "A, J": Reduction("linear", ("A", "J"), one),
    "H": Reduction("mixer", ("H", "dH"), one),
    "S": Reduction("attention", ("S",), one),
}


def main() -> None:
    """Print the table."""
    logging.set_verbosity_error()
    print(f"| family | class | blocks | heads | {' | '.join(SITES)} | finite | not applicable |")
    print("|---|---|--:|--:|" + "--:|" * len(SITES) + "--:|---|")
    for family in FAMILIES:
        model = tiny_model(family)
        batch = minibatch(model, batch_size=4, seq_len=16)
        layout = layout_of(model)
        values = capture(model, batch, list(SITES.values()), layout).values
        scores = score(model, batch)
        finite = sum(row.status == "ok" for row in scores.rows)
        others = [f"{row.proxy}" for row in scores.rows if row.status != "ok"]
        heads = scores["num_heads"].value
        counts = " | ".join(str(len(values[reduction])) for reduction in SITES.values())
        print(
            f"| {family} | {type(model).__name__} | {scores['num_layers'].value:g} | "
            f"{'—' if heads is None else f'{heads:g}'} | {counts} | {finite}/{len(scores)} | {', '.join(others)} |"
        )


if __name__ == "__main__":
    main()
