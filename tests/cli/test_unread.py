"""An option that nothing reads beside another one is refused in one line that names both; none is passed over."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

Lpz = Callable[..., tuple[int, str, str]]
NAS = "nas tiny-gpt2 --out run"
GOAL = f"{NAS} -o params --max params=9M"
SEARCH = "search tiny-gpt2 --limit 4 --train 3"
CROSS = "bench transfer tiny-gpt2 tiny-lm"
TABLE = "bench eval t.csv --metric loss"
TRAIN = "bench train tiny-gpt2 --out made"
PAIRS = [
    ("rank tiny-gpt2 -p params --top 3 --json", "--top", "--json"),
    ("rank tiny-gpt2 -p params --top 3 --csv", "--top", "--csv"),
    ("rank tiny-gpt2 -p params --json --csv", "--json", "--csv"),
    ("rank tiny-gpt2 -p params --executor local --workers 4", "--executor", "--workers"),
    ("rank tiny-gpt2 -p params --executor process --address h:1", "--executor", "--address"),
    ("bench eval tiny-gpt2 --more --json", "--more", "--json"),
    ("bench eval tiny-gpt2 --more --csv", "--more", "--csv"),
    (f"{TABLE} --base gpt2-variant --space tiny-gpt2", "--base", "--space"),
    (f"{TABLE} --architecture-column arch --base gpt2-variant", "--base", "--architecture-column"),
    (f"{TABLE} --architecture-column arch --extra-column n", "--extra-column", "--architecture-column"),
    (f"{CROSS} --more --json", "--more", "--json"),
    (f"{CROSS} --more --csv", "--more", "--csv"),
    (f"{CROSS} --ceiling", "--ceiling", "--search"),
    (f"{CROSS} --resume", "--resume", "--out"),
    (f"{CROSS} --search '--strategy exhaustive --population 4'", "--population", "--strategy exhaustive"),
    (f"{TRAIN} --architectures list.txt --sample architecture", "--sample", "--architectures"),
    (f"{TRAIN} --repeats 0 --seeds 3", "--seeds", "--repeats"),
    (f"{TRAIN} --validation t.txt --validation-split x", "--validation", "--validation-split"),
    (f"{TRAIN} --text t.txt --column text", "--column", "--text"),
    *((f"{SEARCH} --strategy exhaustive {option}", option.split()[0], "--strategy")
      for option in ("--iterations 9", "--population 9", "--preset paper", "--batch 4", "--no-prune", "--early 5",
                     "--start run")),
    (f"{SEARCH} --strategy random --preset paper", "--preset", "--strategy"),
    (f"{SEARCH} --strategy random --start run", "--start", "--strategy"),
    (f"{SEARCH} --preset paper --start run", "--start", "--preset"),
    (f"{SEARCH} --population 9", "--population", "--preset"),
    (f"{SEARCH} --early 9", "--early", "--preset"),
    (f"{SEARCH} --preset paper --fitness kendall --early 9", "--early", "--fitness"),
    (f"{SEARCH} --over-settings worst", "--over-settings", "--minibatch"),
    (f"{SEARCH} --minibatch 2x8 --over-settings worst", "--over-settings", "--minibatch"),
    (f"{SEARCH} --minibatch 2x8 --minibatch 4x8 --batch-size 2", "--minibatch", "--batch-size"),
    (f"{SEARCH} --combine worst", "--combine", "BENCH"),
    (f"{SEARCH} --plots", "--plots", "--out"),
    (f"{SEARCH} --resume", "--resume", "--out"),
    (f"{GOAL} --among tiny-gpt2 --trials 5", "--trials", "--among"),
    (f"{GOAL} --strategy exact --trials 5", "--trials", "--strategy"),
    (f"{GOAL} --among tiny-gpt2 --strategy random", "--among", "--strategy"),
    (f"{GOAL} --workers 4", "--workers", "--objective"),
    (f"{GOAL} --executor process", "--executor", "proxy"),
    *((f"{GOAL} {option}", option.split()[0], "--objective")
      for option in ("--batch-size 2", "--seq-len 8", "--text t.txt", "--dataset d", "--random-tokens",
                     "--same-init 0.02", "--repeats 3", "--warmup 1")),
    *((f"{NAS} -p params --max-params 9M {option}", option.split()[0], "--max-params")
      for option in ("--prompts 2", "--prompt-len 8", "--repeats 3", "--warmup 1")),
    (f"{NAS} -p params --max-params 9M --workers 4", "--workers", "--among"),
    (f"{NAS} -p params --max-params 9M --executor process", "--executor", "--among"),
    (f"{NAS} -p params --max-params 9M --metric loss", "--metric", "table"),
    ("cost gpt2-variant -c params --repeats 3", "--repeats", "--cost"),
    ("cost gpt2-variant -c params --warmup 3", "--warmup", "--cost"),
    ("zoo --json show tiny-gpt2", "--json", "show"),
    ("export sum(sum(product(W,G))) --name x --which ensemble", "--which", "expression"),
    ("score gpt2-variant --plan --csv", "--plan", "--csv"),
    ("score gpt2-variant --random-tokens --text t.txt", "--random-tokens", "--text"),
    ("score gpt2-variant --pretrained --same-init 0.02", "--pretrained", "--same-init"),
    ("score --from s.json --seeds 2", "--from", "--seeds"),
    ("score gpt2-variant --dataset d --text t.txt", "--dataset", "--text"),
    ("score gpt2-variant --split train --text t.txt", "--split", "--dataset"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a table, a text and a list."""
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text("arch,n,loss\n" + "".join(f"d{i},{i},{5 + i}\n" for i in range(4)))
    Path("t.txt").write_text("to be or not to be " * 99)
    Path("list.txt").write_text("d64.e32.k1-h1.i64\n")


@pytest.mark.parametrize(("words", "option", "other"), PAIRS)
def test_an_option_without_effect_is_refused_with_the_other(words: str, option: str, other: str, lpz: Lpz) -> None:
    code, out, err = lpz(*(words.split() if "(" in words else shlex.split(words)))
    told = [line for line in err.splitlines() if line.startswith("error: ")]
    assert (code, out, len(told)) == (2, "", 1), err
    assert option in told[0]
    assert other in told[0]
    assert not Path("run").exists()
    assert not Path("made").exists()


@pytest.mark.parametrize(
    "words",
    [
        "rank tiny-gpt2 -p params --n 2 --top 1 --batch-size 2 --seq-len 8",
        "cost gpt2-variant -c params,latency --repeats 1 --warmup 0 --prompt-len 8",
        f"{GOAL} --trials 2 --workers 1",
        f"{GOAL} --among tiny-gpt2 --strategy exact",
        "zoo show tiny-gpt2 --json",
    ],
)
def test_an_option_with_an_effect_is_taken(words: str, lpz: Lpz) -> None:
    code, _, err = lpz(*words.split())
    assert code == 0, err
