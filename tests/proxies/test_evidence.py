"""What is known of proxies, and which of them are recommended."""

from __future__ import annotations

import json
import warnings
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from typing import Any

import numpy as np
import pytest

from lpzero_hf import hookimpl, recommended
from lpzero_hf.errors import PluginWarning
from lpzero_hf.plugins import PluginRegistry, load_plugins
from lpzero_hf.proxies.base import REPLICA
from lpzero_hf.proxies.evidence import COUNTS, OTHERS, WINNER, Known, evidence_of, shipped_evidence
from lpzero_hf.proxies.resolve import find_proxy, installed_proxies

DATA = files("lpzero_hf.proxies") / "data"


def known(of: dict[str, float | dict[str, Any]], kinds: dict[str, str] | None = None, version: str = "") -> Known:
    """Evidence with these agreements at equal size, on one benchmark of decoders."""
    rows = {}
    for name, value in of.items():
        given = value if isinstance(value, dict) else {"matched": [value] * 3}
        one = {"benchmark": "b", "n": 9, "rho": [0.5] * 3, "pairs": 9, "matched": None, "alike": []} | given
        rows[name] = {"version": version or find_proxy(name).version, "measured": [one]}
    return Known.from_dict(
        {"match": "decoder_params", "within": 1.15, "benchmarks": kinds or {"b": "decoder"}, "proxies": rows}
    )


def names(evidence: Known, kind: str = "decoder") -> list[str]:
    return [proxy.name for proxy in recommended(kind, known=evidence)]


def test_the_shipped_evidence_fits_its_schema_and_the_installed_proxies() -> None:
    from jsonschema import Draft202012Validator

    document = json.loads((DATA / "evidence.json").read_text(encoding="utf-8"))
    Draft202012Validator(json.loads((DATA / "evidence.schema.json").read_text(encoding="utf-8"))).validate(document)
    offered = installed_proxies(load_plugins())
    for name, found in document["proxies"].items():
        if name in offered:
            assert found["version"] == offered[name].item.version, f"{name} was changed; make its evidence again"
            searched = set(offered[name].item.trained_on)
            assert name == WINNER or searched.isdisjoint(one["benchmark"] for one in found["measured"])


@pytest.mark.parametrize("kind", ["encoder", "decoder", "encoder-decoder", "other"])
def test_a_few_proxies_are_recommended_with_their_evidence(kind: str) -> None:
    chosen = recommended(kind)
    assert [proxy.name for proxy in chosen[:3]] == ["params", "decoder_params", "lpzero-any"]
    assert 4 <= len(chosen) <= 3 + COUNTS + OTHERS
    plugins, evidence = load_plugins(), shipped_evidence()
    for proxy in chosen[3:]:
        found = evidence_of(proxy, kind, plugins)
        assert found is not None
        assert {one.benchmark for one in found.measured} == set(evidence.benchmarks(kind))
    everywhere = {
        claim.item.name: found
        for claim in installed_proxies(plugins).values()
        if (found := evidence.of(claim.item, kind)) and len(found.measured) == len(evidence.benchmarks(kind))
        and not claim.item.trained_on and not claim.item.name.endswith(REPLICA)
    }  # fmt: skip
    best = max(everywhere, key=lambda name: everywhere[name].matched or -1)
    assert any(proxy.name == best or everywhere[best].is_like(proxy.name) for proxy in chosen)


def test_the_best_at_equal_size_are_recommended_and_the_cheaper_of_equal_ones_first() -> None:
    found = names(known({"snip": 0.41, "nwot": 0.40, "zen": 0.6, "l2_norm": 0.39, "flops": 0.3, "w_pca": 0.1}))
    assert found == ["params", "decoder_params", "lpzero-any", "flops", "zen", "l2_norm", "nwot"]


def test_what_is_weak_not_measured_everywhere_or_searched_is_not_recommended() -> None:
    weak = {"snip": 0.19, "nwot": {"matched": None}, "lpzero-gpt2": 0.9}
    assert names(known(weak)) == ["params", "decoder_params", "lpzero-any"]
    assert names(known({"snip": 0.9}, {"b": "decoder", "c": "decoder"})) == ["params", "decoder_params", "lpzero-any"]
    assert names(known({"snip": 0.9}, {"b": "decoder", "c": "encoder"}))[3:] == ["snip"]
    assert names(known({"snip": 0.9}, {"b": "decoder", "c": "encoder"}), "encoder")[3:] == []
    assert names(known({"snip": 0.9}), "encoder-decoder")[3:] == ["snip"]  # of no such model is there a benchmark


def test_a_proxy_that_ranks_as_a_better_one_does_is_left_out() -> None:
    alike = {"snip": {"matched": [0.5] * 3, "alike": ["nwot"]}, "nwot": {"matched": [0.9] * 3, "alike": ["snip"]}}
    assert names(known(alike))[3:] == ["nwot"]
    assert names(known({name: one | {"alike": []} for name, one in alike.items()}))[3:] == ["nwot", "snip"]


def test_another_version_and_another_distribution_have_no_evidence() -> None:
    plugins = load_plugins()
    assert evidence_of(find_proxy("snip"), "decoder", plugins, known({"snip": 0.5})) is not None
    assert evidence_of(find_proxy("snip"), "decoder", plugins, known({"snip": 0.5}, version="0")) is None
    assert evidence_of(find_proxy("sum(sum(product(W, G)))"), "decoder", plugins) is None
    points = [*entry_points(group="lpzero_hf"), EntryPoint("strange", "tests.proxies.test_evidence", "lpzero_hf")]
    strangers = PluginRegistry(["builtin-proxies"], points)
    with pytest.warns(PluginWarning, match="'lpzero-any' needs"):
        theirs = installed_proxies(strangers)["snip"].item
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PluginWarning)
        assert evidence_of(theirs, "decoder", strangers, known({"snip": 0.5}, version=theirs.version)) is None


def snip(model, batch) -> float:
    return 1.0


@hookimpl
def lpz_proxies():
    """Those of this module, as the plugin of a stranger."""
    return [snip]


def test_means_weigh_benchmarks_alike() -> None:
    evidence = shipped_evidence().of(find_proxy("snip"), "decoder")
    assert evidence is not None
    assert evidence.matched == pytest.approx(np.mean([one.matched[0] for one in evidence.measured]), abs=1e-4)
    assert evidence.rho == pytest.approx(np.mean([one.rho[0] for one in evidence.measured]), abs=1e-4)
    assert evidence.to_dict()["benchmarks"] == len(evidence.measured) > 1
