"""The numbers that a search and its artifacts claim, against cases worked out by hand."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from lpzero_hf import Setting, parse, search
from lpzero_hf.benchmarks.agreement import Agreement, Estimate
from lpzero_hf.proxies.searched_proxy import quantile
from lpzero_hf.searching.config import SearchConfig
from lpzero_hf.searching.export import artifact_of
from lpzero_hf.searching.result import SearchResult, Split, Winner
from tests.support.searches import NAMES
from tests.support.trained import write_benchmark


def test_baselines_are_graded_on_the_held_out_architectures(tmp_path: Path) -> None:
    """One layer is worse than two where it is held out, and better where it was searched on."""
    seen = set(random.Random(42).sample(range(12), 6))
    losses = [name.count("-") if place in seen else 3 - name.count("-") for place, name in enumerate(NAMES)]
    assert set(losses) == {1, 2}
    made = write_benchmark(tmp_path / "made", dict(zip(NAMES, map(float, losses), strict=True)))
    found = search(made, setting=Setting(2, 8), iterations=10, population=5, train=6)
    (split,) = found.splits
    assert {NAMES.index(key) for key in split.trained_on[made]} == seen
    graded = split.baselines[made]["num_layers"]
    assert graded.spearman is not None
    assert (graded.n, graded.spearman.value) == (6, 1)
    assert artifact_of(found, "found").provenance["baselines"][made]["num_layers"] == graded.to_dict()


def an_ensemble() -> SearchResult:
    """Two members on three architectures searched on (a, b, c) and three others (d, e, f).

    Their scores as quantiles of those of a, b and c, and as ranks among d, e and f:

        |   | member 1 | member 2 | quantiles        | ranks     | truth |
        | d | 0.2      | 9        | 0.10 + 0.9 = 1.00 | 0 + 2 = 2 | 3     |
        | e | 0.4      | 1        | 0.20 + 0.1 = 0.30 | 1 + 0 = 1 | 1     |
        | f | 5.5      | 2        | 0.75 + 0.2 = 0.95 | 2 + 1 = 3 | 2     |

    So quantiles rank as the truth does, and ranks have a Spearman's rho of 1 - 6 * 2 / (3 * 8) = 0.5.
    """
    scores: list[list[float | None]] = [[0, 1, 10, 0.2, 0.4, 5.5], [0, 5, 10, 9, 1, 2]]
    by_ranks = Agreement(3, Estimate(0.5, -1.0, 1.0), Estimate(1 / 3, -1.0, 1.0), 0.0)
    expressions = tuple(parse(f"sum(sum(product({name}, abs(G))))") for name in ("abs(W)", "sqrt(W)"))
    winner = Winner(expressions[:1], (1,), {"made": by_ranks}, {"made": by_ranks}, {"made": scores[:1]})
    together = Winner(expressions, (1, 1), {"made": by_ranks}, {"made": by_ranks}, {"made": scores})
    split = Split(42, {"made": ["a", "b", "c"]}, winner, together, [], [], {}, 2, {}, {}, 0.0)
    truth = [1.0, 2.0, 3.0, 3.0, 1.0, 2.0]
    keys = list("abcdef")
    return SearchResult(SearchConfig(("made",)), 2, {"made": keys}, {"made": truth}, [split], {}, None, {})


def test_an_ensemble_is_graded_by_the_quantiles_it_carries() -> None:
    artifact = artifact_of(an_ensemble(), "together", which="ensemble")
    one, other = artifact.members
    assert (one.scale, other.scale) == ((0, 1, 10), (0, 5, 10))
    totals = [quantile(x, one) + quantile(y, other) for x, y in ((0.2, 9), (0.4, 1), (5.5, 2))]
    assert totals == pytest.approx([1.0, 0.3, 0.95])
    held = artifact.provenance["held_out"]["made"]
    assert (held["n"], held["spearman"]["value"], held["kendall"]["value"]) == (3, 1, 1)
    assert artifact.provenance["train"]["made"]["spearman"]["value"] == 1


def test_a_winner_is_graded_as_its_search_did() -> None:
    artifact = artifact_of(an_ensemble(), "alone")
    assert artifact.provenance["held_out"]["made"]["spearman"]["value"] == 0.5
