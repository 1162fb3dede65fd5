"""Everything that a table of one's own lacks is told in one message, and what a column may be meant as."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lpzero_hf import LpzError, benchmark_from_table, load_benchmark
from lpzero_hf.errors import UsageError

Lpz = Callable[..., tuple[int, str, str]]
SPACE = """\
base:
  model_type: gpt2
choices:
  num_hidden_layers: [2, 3, 4]
  num_attention_heads: [2, 4]
"""
UNSAID = ("--metric", "--lower-is-better or --higher-is-better")
NO_COLUMN = "--architecture-column"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"{n},{2},{9 - n},0" for n in (2, 3, 4)]
    Path("t.csv").write_text("\n".join(["n_layer,n_hed,score,seed", *rows]) + "\n")
    Path("known.csv").write_text("\n".join(["n_layer,n_head,val_loss,seed", *rows]) + "\n")
    Path("space.yaml").write_text(SPACE)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("t.csv", (*UNSAID, NO_COLUMN, "needs 3 things")),
        ("t.csv --space space.yaml", (*UNSAID, NO_COLUMN, "n_layer (as num_hidden_layers)", "--base MODEL")),
        ("t.csv --base gpt2-variant", (*UNSAID, "'n_hed', did you mean 'n_head'", "--extra-column n_hed")),
        ("t.csv --metric scor", ("'scor'; did you mean 'score'", UNSAID[1], NO_COLUMN)),
        ("t.csv --metric loss --seed-column sed", ("'loss'", "'sed'; did you mean 'seed'", NO_COLUMN)),
        ("t.csv --metric loss --base gpt2-variant --extra-column num_hidden_layers",
         ("'loss'", "'num_hidden_layers'; did you mean 'n_layer'", "'n_hed'")),
        ("known.csv --base gpt2-variant", ("--metric", "val_loss")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["bench show", "bench eval", "search", "bench transfer", "nas --among"])
def test_all_that_a_table_lacks_is_told_at_once(command: str, words: str, told: tuple[str, ...], lpz: Lpz) -> None:
    more = ("-o", "params", "--out", "run") if command.startswith("nas") else ()
    code, out, err = lpz(*command.split(), *words.split(), *more)
    assert (code, out) == (2, "")
    error = err.splitlines()[-1]
    assert error.startswith("error: ")
    for part in told:
        assert part in error, error


def test_python_is_told_all_at_once_too() -> None:
    with pytest.raises(UsageError, match="needs 3 things") as refused:
        load_benchmark("t.csv")
    for argument in ("`metric=`", "`larger_is_better=False`", "`architecture=`"):
        assert argument in str(refused.value)
    rows = [{"a": n, "loss": n} for n in (1, 2, 3)]
    with pytest.raises(UsageError, match="needs 3 things"):
        benchmark_from_table(rows, "los", seed_column="sed")


def test_one_thing_alone_is_told_alone(lpz: Lpz) -> None:
    told = lpz("bench", "show", "known.csv", "--metric", "val_loss", "--base", "gpt2-varian")[2]
    assert "things" not in told
    with pytest.raises(UsageError) as refused:
        benchmark_from_table("known.csv", "vall_loss", base="gpt2-variant")
    assert str(refused.value).startswith("'known.csv' has no column 'vall_loss'; did you mean 'val_loss'?")
    with pytest.raises(LpzError, match="there is no table"):
        benchmark_from_table("none.csv", "loss")


def test_columns_that_are_choices_of_a_space_are_told() -> None:
    with pytest.raises(UsageError, match="seem to be choices") as refused:
        benchmark_from_table("known.csv", "val_loss", space="space.yaml")
    assert "n_layer (as num_hidden_layers), n_head (as num_attention_heads)" in str(refused.value)
    assert "`base=MODEL`" in str(refused.value)
