"""The six published shapes of the page "Score my model": its configurations are read from the page, and scored."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lpzero_hf import load_model, score
from tests.support.pages import ROOT

PAGE = (ROOT / "docs" / "how-to" / "my-model.md").read_text(encoding="utf-8")
CONFIGS: dict[str, dict[str, Any]] = {
    name: json.loads(block)
    for name, block in re.findall(r"^`([\w.-]+\.json)`:\n\n```json\n(.*?)^```", PAGE, re.M | re.S)
}
TOLD = {
    name: tuple(int(cell.replace(",", "")) for cell in cells)
    for name, *cells in re.findall(r"^\| `(\S+)` \|[^|]*\| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", PAGE, re.M)
}
SMALL = 2 * 10**8  # parameters of a model whose gradients are taken here


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], str]:
    def written(name: str) -> str:
        (tmp_path / name).write_text(json.dumps(CONFIGS[name]), encoding="utf-8")
        return str(tmp_path / name)

    return written


def test_the_page_has_six_shapes_each_with_its_numbers() -> None:
    assert len(CONFIGS) == 6
    assert CONFIGS.keys() == TOLD.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_the_numbers_of_the_page_are_those_of_the_model(name: str, file: Callable[[str], str]) -> None:
    model = load_model(file(name), lazy=True).model
    counted = score(model, None, ["params", "decoder_params", "num_layers"])
    assert tuple(row.value for row in counted.rows) == TOLD[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_a_shape_is_scored_from_the_command_line(
    name: str, file: Callable[[str], str], lpz: Callable[..., tuple[int, str, str]]
) -> None:
    proxies = "params,flops,l2_norm" + (",snip" if TOLD[name][0] < SMALL else "")
    code, out, err = lpz("score", file(name), "-p", proxies, "--batch-size", "2", "--seq-len", "16", "--json")
    assert code == 0, err
    scores = {row["proxy"]: row for row in json.loads(out)["models"][0]["scores"]}
    assert {row["status"] for row in scores.values()} == {"ok"}
    assert scores["params"]["value"] == TOLD[name][0]
    assert all(row["value"] > 0 for row in scores.values())
