"""The numbers that a search and its artifacts claim, against cases worked out by hand."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
import torch

from lpzero_hf import Setting, parse, search
from lpzero_hf.benchmarks.agreement import Agreement, Estimate
from lpzero_hf.proxies.searched_proxy import quantile
from lpzero_hf.searching.benchmark_scores import agreement_of
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
    train = artifact.provenance["train"]["made"]
    assert (train["n"], train["spearman"]["value"]) == (3, 1)


def test_an_ensemble_is_graded_by_its_sum_of_ranks() -> None:
    """Ranks 0 1 2 and 1 2 0 sum up to 1 3 2, which is the truth; the scores themselves to 5 10 100."""
    members = torch.tensor([[0, 1, 100, math.nan], [5, 9, 0, 7]], dtype=torch.float64)
    truth = torch.tensor([1, 3, 2, 9], dtype=torch.float64)
    together = agreement_of(members, truth)
    assert together.spearman is not None
    assert (together.n, together.spearman.value) == (3, 1)  # without the architecture that one member has no score of
    first = agreement_of(members[0], truth)
    assert first.spearman is not None
    assert (first.n, first.spearman.value) == (3, 0.5)


def graded_as(rho: float, tau: float) -> Agreement:
    return Agreement(9, Estimate(rho, -1.0, 1.0), Estimate(tau, -1.0, 1.0), 0.5)


def three_splits() -> SearchResult:
    """Winners of a rho of 0.2, 0.6 and none, ensembles of 0.1, 0.5 and 0.9, and layers of 0.3, 0.4 and 0.8."""
    undefined = Agreement(2, None, None, 0.5)
    winners = [graded_as(0.2, 0.1), graded_as(0.6, 0.3), undefined]
    ensembles = [graded_as(rho, rho / 2) for rho in (0.1, 0.5, 0.9)]
    layers = [graded_as(rho, rho) for rho in (0.3, 0.4, 0.8)]
    train, splits = {"made": graded_as(1.0, 1.0)}, []
    for number in range(3):
        expressions = (parse("sum(sum(product(abs(W), abs(G))))"),)
        winner = Winner(expressions, (1,), train, {"made": winners[number]}, {})
        ensemble = Winner(expressions, (1,), train, {"made": ensembles[number]}, {})
        baselines = {"made": {"num_layers": layers[number]}}
        splits.append(Split(42 + number, {"made": [f"{number}"]}, winner, ensemble, [], [], baselines, 2, {}, {}, 0.0))
    tests = {"other": [graded_as(rho, rho) for rho in (0.5, 0.6, 0.7)]}
    keys, truth = {"made": list("012345")}, {"made": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]}
    return SearchResult(SearchConfig(("made",), splits=3), 2, keys, truth, splits, tests, None, {})


def test_a_summary_is_of_held_out_agreement_in_the_splits_that_have_one() -> None:
    summary = three_splits().summary()
    assert summary.keys() == {"made", "other"}
    assert summary["made"].keys() == {"winner", "ensemble", "num_layers"}
    expected = {
        "winner": (2, 0.4, 0.2, 0.2, 0.1),  # 0.2 and 0.6; 0.1 and 0.3
        "ensemble": (3, 0.5, 0.4 * math.sqrt(2 / 3), 0.25, 0.2 * math.sqrt(2 / 3)),
        "num_layers": (3, 0.5, math.sqrt((0.04 + 0.01 + 0.09) / 3), 0.5, math.sqrt((0.04 + 0.01 + 0.09) / 3)),
    }
    for name, (count, rho, rho_sd, tau, tau_sd) in expected.items():
        row = summary["made"][name]
        assert row["splits"] == count
        made = (row["spearman"], row["spearman_sd"], row["kendall"], row["kendall_sd"])
        assert made == pytest.approx((rho, rho_sd, tau, tau_sd))
    assert summary["other"]["winner"]["spearman"] == pytest.approx(0.6)


def test_an_artifact_records_the_split_that_it_is_of() -> None:
    result = three_splits()
    for number, rho in enumerate((0.5, 0.6, 0.7)):
        record = artifact_of(result, "mine", split=number).provenance
        assert record["tests"]["other"]["spearman"]["value"] == rho
        assert (record["seed"], record["split"]) == (42 + number, {"number": number, "of": 3})
        assert record["trained_on"] == {"made": [f"{number}"]}
        assert (
            record["baselines"]["made"]["num_layers"] == result.splits[number].baselines["made"]["num_layers"].to_dict()
        )
        assert record["held_out"]["made"] == result.splits[number].winner.held_out["made"].to_dict()
        assert record["train"]["made"]["spearman"]["value"] == 1.0


def test_a_winner_is_graded_as_its_search_did() -> None:
    artifact = artifact_of(an_ensemble(), "alone")
    assert artifact.provenance["held_out"]["made"]["spearman"]["value"] == 0.5
