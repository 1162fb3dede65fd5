"""The evidence that the package ships is made from run files by code."""

from __future__ import annotations

import pytest

from lpzero_hf.benchmarks.matched import matched_agreement
from lpzero_hf.plugins import load_plugins
from lpzero_hf.proxies.evidence import Known
from lpzero_hf.proxies.resolve import installed_proxies
from studies.proxies.evidence import document, graded_runs, results

OFFERED = {name: claim.item for name, claim in installed_proxies(load_plugins()).items()}
TRUTH = [5.0, 4.0, 3.5, 3.0, 2.0, 1.0]
SIZES = [100.0, 101.0, 102.0, 103.0, 200.0, 900.0]


def run(better: str = "smaller", **scores: list[float | None]) -> dict[str, object]:
    return {
        "architectures": list("abcdef"),
        "truth": TRUTH,
        "scores": {"decoder_params": SIZES} | scores,
        "facts": {"benchmark": "gpt2-wt103", "better": better},
    }


def test_results_are_oriented_and_without_what_has_no_score() -> None:
    scores = [1.0, 2.0, None, 4.0, 3.0, 6.0]
    made = {name: (found, alike) for name, _, found, alike in results(run(snip=scores, strange=scores), OFFERED)}
    assert "strange" not in made  # not installed
    found, alike = made["snip"]
    truth = [-value for value in TRUTH]
    assert found.n == 5
    assert found.matched == matched_agreement(
        [float("nan") if s is None else s for s in scores], truth, SIZES, match="decoder_params"
    )
    assert found.matched.pairs == 3  # the first four without the third
    assert found.spearman.value == pytest.approx(0.9)
    assert alike == []
    other = {name: found for name, _, found, _ in results(run("larger", snip=scores), OFFERED)}
    assert other["snip"].spearman.value == pytest.approx(-0.9)
    lower = {name: found for name, _, found, _ in results(run(lpzero_paper_gpt2=scores), OFFERED)}
    assert OFFERED["lpzero_paper_gpt2"].orientation == -1
    assert lower["lpzero_paper_gpt2"].spearman.value == pytest.approx(-0.9)


def test_a_proxy_is_not_measured_where_it_was_searched() -> None:
    assert "gpt2-wt103" in OFFERED["lpzero-gpt2"].trained_on
    made = [name for name, *_ in results(run(**{"lpzero-gpt2": TRUTH}), OFFERED)]
    assert made == ["decoder_params"]
    elsewhere = run(**{"lpzero-gpt2": TRUTH}) | {"facts": {"benchmark": "tiny-gpt2", "better": "smaller"}}
    assert [name for name, *_ in results(elsewhere, OFFERED)] == ["decoder_params", "lpzero-gpt2"]


def test_proxies_that_rank_nearly_alike_are_told() -> None:
    made = {name: alike for name, _, _, alike in results(run(snip=SIZES, nwot=TRUTH), OFFERED)}
    assert made == {"decoder_params": ["snip"], "snip": ["decoder_params"], "nwot": []}


def test_the_document_is_read_as_it_was_measured() -> None:
    found = list(results(run(snip=SIZES), OFFERED))
    versions = {name: proxy.version for name, proxy in OFFERED.items()}
    known = Known.from_dict(document(found, {"gpt2-wt103": "decoder"}, versions))
    evidence = known.of(OFFERED["snip"], "decoder")
    assert evidence is not None
    (measured,) = evidence.measured
    assert (measured.benchmark, measured.n, measured.rho[0], measured.pairs) == ("gpt2-wt103", 6, 1.0, 6)
    assert evidence.matched == 1.0
    assert measured.alike == ("decoder_params",)


def test_the_run_files_hold_every_public_benchmark() -> None:
    assert set(graded_runs()) == {"flexibert", "gpt2-wt103", "tiny-gpt2", "gpt2-lm1b", "gemstones"}
