"""`lpz`: tables for people, JSON and CSV for programs, one line and an exit code for what goes wrong."""

from __future__ import annotations

import csv
import dataclasses
import inspect
import io
import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pytest
from lpz_cli.options import parameters

from lpzero_hf import recommended
from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.proxies.resolve import installed_proxies
from tests.support.families import FAMILIES, tiny_model

Lpz = Callable[..., tuple[int, str, str]]
SMALL = ("--batch-size", "2", "--seq-len", "16")


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    """The path of a tiny model's config.json."""
    tiny_model("gpt2").config.save_pretrained(tmp_path)
    return str(tmp_path / "config.json")


def test_score_prints_a_table_with_every_proxy_if_asked_to(lpz: Lpz, tiny: str) -> None:
    code, out, err = lpz("score", tiny, "--proxy", "all", *SMALL)
    assert code == 0
    assert all("hangs on rounding" in line for line in err.splitlines())  # a winner on so small a model
    for claim in installed_proxies(PluginRegistry(found=entry_points(group="lpzero_hf"))):
        assert f" {claim} " in out
    assert "lower" in out
    assert "at equal size" not in out  # as before there was any evidence


def test_score_without_a_proxy_shows_those_recommended_for_the_kind_of_the_model(lpz: Lpz, tiny: str) -> None:
    code, out, _ = lpz("score", tiny, "bert-mini", "--json", *SMALL)
    decoder, encoder = json.loads(out)["models"]
    assert code == 0
    for model, kind in ((decoder, "decoder"), (encoder, "encoder")):
        assert model["kind"] == kind
        assert [row["proxy"] for row in model["scores"]] == [proxy.name for proxy in recommended(kind)]
    of_decoders, of_encoders = (model["scores"][0]["evidence"] for model in (decoder, encoder))
    assert (of_decoders["benchmarks"], of_encoders["benchmarks"]) == (len(of_decoders["measured"]), 1)
    cells = table(lpz("score", tiny, "bert-mini", *SMALL)[1])
    both = [(of_decoders[column], of_encoders[column]) for column in ("matched", "rho")]
    assert cells["params"][4:6] == [f"{first:+.2f} / {second:+.2f}" for first, second in both]
    assert cells["params"][6] == f"{of_decoders['benchmarks']} / 1"
    for proxy in {*decoder_only(), *encoder_only()}:
        assert [cells[proxy][1] == "", cells[proxy][2] == ""] == [proxy in encoder_only(), proxy in decoder_only()]


def decoder_only() -> set[str]:
    return {proxy.name for proxy in recommended("decoder")} - {proxy.name for proxy in recommended("encoder")}


def encoder_only() -> set[str]:
    return {proxy.name for proxy in recommended("encoder")} - {proxy.name for proxy in recommended("decoder")}


def table(out: str) -> dict[str, list[str]]:
    """The cells of each row by the first."""
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    return {row[0]: row for row in rows}


def test_what_was_never_measured_has_no_evidence(lpz: Lpz, tiny: str, with_plugin: Callable[[str], None]) -> None:
    with_plugin(NAN.replace('float("nan")', "1.0"))
    expression = "sum(sum(product(abs(W), abs(G))))"
    asked = ("-p", "bad_nan", "-p", expression, "-p", "snip")
    code, out, _ = lpz("score", tiny, *asked, *SMALL)
    cells = table(out)
    assert code == 0
    assert cells["bad_nan"][3:6] == cells[expression][3:6] == ["—"] * 3
    assert "—" not in cells["snip"]
    assert "--proxy all" not in out
    rows = list(csv.DictReader(io.StringIO(lpz("score", tiny, *asked, "--csv", *SMALL)[1])))
    assert [row["benchmarks"] for row in rows] == ["", "", cells["snip"][5]]


def test_json_is_one_document_with_everything_needed_to_repeat_it(lpz: Lpz, tiny: str) -> None:
    code, out, _ = lpz("score", tiny, "-p", "snip", "-p", "params", "--json", *SMALL)
    document = json.loads(out)
    assert code == 0
    (model,) = document["models"]
    assert [row["proxy"] for row in model["scores"]] == ["snip", "params"]
    assert model["scores"][0]["distribution"] == "lpzero-hf"
    assert (model["batch_size"], model["seq_len"], model["weights"]) == (2, 16, "random")
    assert document["settings"]["seed"] == 42
    assert lpz("score", tiny, "-p", "snip", "--json", *SMALL)[1].count(repr(model["scores"][0]["value"])) == 1


def test_csv_has_a_row_per_model_and_proxy(lpz: Lpz, tiny: str) -> None:
    _, out, _ = lpz("score", tiny, "bert-mini", "-p", "snip", "-p", "num_layers", "--csv", *SMALL)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["model"], row["proxy"]) for row in rows] == [
        (m, p) for m in (tiny, "bert-mini") for p in ("snip", "num_layers")
    ]
    assert float(rows[3]["score"]) == 4


def test_several_models_stand_side_by_side(lpz: Lpz, tiny: str) -> None:
    _, out, _ = lpz("score", "gpt2-variant", "bert-mini", "-p", "num_layers", *SMALL)
    assert "gpt2-variant" in out
    row = next(line for line in out.splitlines() if "num_layers" in line)
    assert [cell.strip() for cell in row.split("│")][2:4] == ["6", "4"]


def test_what_does_not_apply_says_so_and_is_no_error(lpz: Lpz, tmp_path: Path) -> None:
    tiny_model("fnet").config.save_pretrained(tmp_path)
    code, out, err = lpz("score", str(tmp_path), "-p", "attention_confidence", *SMALL)
    assert code == 0
    assert "—" in out
    assert "softmax" in out
    assert err == ""


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("no-such/model name",), 2, "'no-such/model name'"),
        (("gpt2-variant", "-p", "snipp"), 2, "'snipp'"),
        (("gpt2-variant", "--seq-len", "513"), 1, "512 positions"),
        (("gpt2-variant", "--text", "nowhere.txt"), 1, "'nowhere.txt'"),
        (("gpt2-variant", "--device", "abacus"), 2, "'abacus'"),
        (("gpt2-variant", "--json", "--csv"), 2, "--csv"),
        (("gpt2-variant", "--no-plugin", "nothing"), 2, "'nothing'"),
        (("gpt2-variant", "--pretrained"), 2, "--pretrained"),
    ],
)
def test_bad_requests_get_one_line_and_an_exit_code(
    arguments: tuple[str, ...], code: int, message: str, lpz: Lpz
) -> None:
    got, out, err = lpz("score", *arguments)
    assert got == code
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_unknown_options_and_commands_exit_with_2(lpz: Lpz) -> None:
    assert lpz("score", "gpt2-variant", "--wrong")[0] == 2
    assert lpz("scor", "gpt2-variant")[0] == 2


@pytest.mark.parametrize(("text", "message"), [("", "empty"), ("{", "JSON"), ('{"a": 1}', "'model_type'")])
def test_bad_files_get_one_line(text: str, message: str, lpz: Lpz, tmp_path: Path) -> None:
    (tmp_path / "x").write_text(text, encoding="utf-8")
    arguments = ("gpt2-variant", "--text", str(tmp_path / "x")) if not text else (str(tmp_path / "x"),)
    code, _, err = lpz("score", *arguments)
    assert code == 1
    assert message in err
    assert err.count("\n") == 1


def test_one_bad_model_does_not_stop_the_others(lpz: Lpz, tiny: str) -> None:
    code, out, err = lpz("score", "not there", tiny, "-p", "params", "--json", *SMALL)
    bad, good = json.loads(out)["models"]
    assert code == 2
    assert "'not there'" in bad["error"]
    assert good["scores"][0]["status"] == "ok"
    assert err.count("error:") == 1


@pytest.fixture
def with_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Install a plugin of the given source for the commands of this test."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(source: str) -> None:
        (tmp_path / "strange_plugin.py").write_text(source, encoding="utf-8")
        points = [*entry_points(group="lpzero_hf"), EntryPoint("strange", "strange_plugin", "lpzero_hf")]
        for module in ("lpz_cli.score", "lpz_cli.listing", "lpz_cli.main"):
            monkeypatch.setattr(f"{module}.load_plugins", lambda off, points=points: PluginRegistry(off, points))

    monkeypatch.delitem(sys.modules, "strange_plugin", raising=False)
    yield install
    sys.modules.pop("strange_plugin", None)


NAN = """
from lpzero_hf import hookimpl
print("a plugin talks")
def bad_nan(model, batch):
    return float("nan")
def bad_inf(model, batch):
    return float("inf")
def bad_text(model, batch):
    print("so does a proxy")
    return "much"
def bad_crash(model, batch):
    raise KeyError("gone")
@hookimpl
def lpz_proxies():
    return [bad_nan, bad_inf, bad_text, bad_crash]
"""


def test_a_score_that_is_no_finite_number_is_invalid_with_its_cause(
    lpz: Lpz, tiny: str, with_plugin: Callable[[str], None]
) -> None:
    with_plugin(NAN)
    names = ("bad_nan", "bad_inf", "bad_text", "bad_crash", "snip")
    code, out, err = lpz("score", tiny, *(a for n in names for a in ("-p", n)), "--json", *SMALL)
    rows = {row["proxy"]: row for row in json.loads(out)["models"][0]["scores"]}
    assert code == 1
    assert [rows[n]["status"] for n in names] == ["invalid", "invalid", "failed", "failed", "ok"]
    assert rows["bad_nan"]["value"] is None
    assert any("'bad_nan'" in line and "invalid" in line for line in err.splitlines())
    assert "'gone'" in err


def test_a_plugin_that_crashes_is_reported_by_name_and_the_rest_works(
    lpz: Lpz, tiny: str, with_plugin: Callable[[str], None]
) -> None:
    with_plugin("raise RuntimeError('no luck')")
    code, out, err = lpz("score", tiny, "-p", "params", *SMALL)
    assert code == 0
    assert "params" in out
    assert err.count("warning:") == 1
    assert "'strange'" in err
    code, out, _ = lpz("plugins", "--json")
    rows: dict[str, Any] = {row["name"]: row for row in json.loads(out)["plugins"]}
    assert code == 0
    assert rows["strange"]["status"] == "failed"
    assert "no luck" in rows["strange"]["reason"]


def test_a_name_claimed_twice_is_an_error_in_score_and_shown_in_plugins(
    lpz: Lpz, tiny: str, with_plugin: Callable[[str], None]
) -> None:
    with_plugin(NAN.replace("bad_nan", "snip"))
    code, _, err = lpz("score", tiny)
    assert code == 1
    assert "'snip'" in err
    code, out, _ = lpz("plugins", "--json")
    assert code == 0
    assert "'snip'" in json.loads(out)["conflicts"][0]


def test_listings_have_a_table_and_json(lpz: Lpz) -> None:
    assert "arXiv:1810.02340" in lpz("proxies")[1]
    rows = json.loads(lpz("proxies", "--json")[1])["proxies"]
    assert len(rows) > 25
    assert all(row["formula"] and row["passes"] for row in rows)
    assert "gpt2-variant" in lpz("zoo")[1]
    assert json.loads(lpz("zoo", "--json")[1])["models"][0]["model"] == "gpt2-variant"
    assert "builtin-proxies" in lpz("plugins")[1]


def test_a_family_is_built_from_its_config_json_alone(lpz: Lpz, tmp_path: Path) -> None:
    for family in ("t5", "mamba"):
        assert family in FAMILIES
        tiny_model(family).config.save_pretrained(tmp_path / family)
        code, out, _ = lpz("score", str(tmp_path / family / "config.json"), "-p", "snip", "--json", *SMALL)
        assert code == 0
        assert json.loads(out)["models"][0]["scores"][0]["status"] == "ok"


def test_an_unexpected_error_is_one_line_and_debug_shows_the_traceback(
    lpz: Lpz, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lpz_cli.score.print_json", explode)
    code, _, err = lpz("score", tiny, "-p", "params", "--json", *SMALL)
    assert code == 1
    assert err.count("\n") == 1
    assert "No space left" in err
    assert "--debug" in err
    with pytest.raises(OSError, match="No space left"):
        lpz("score", tiny, "-p", "params", "--json", "--debug", *SMALL)


def test_help_does_not_import_torch() -> None:
    code = "import sys; from lpz_cli.main import run; run(['score', '--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0


@pytest.mark.integration
def test_a_score_of_one_model_does_not_wait_for_statistics_of_sets() -> None:
    code = "import sys; from lpz_cli.main import run; run(['score', 'gpt2-variant', '-p', 'params']); "
    code += "sys.exit('scipy.stats' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_commands_on_many_architectures_take_the_groups_of_options_whole() -> None:
    from lpz_cli import bench, nas, options, rank, search

    for group in (options.Conditions, options.Workers):
        wanted = {field.name: field.default for field in dataclasses.fields(group)}
        for command in (bench.evaluate, nas.nas, rank.rank, search.search):
            offered = {name: option.default for name, option in inspect.signature(command).parameters.items()}
            assert wanted.items() <= offered.items()


def test_json_and_csv_together_are_wrong_usage(lpz: Lpz, tiny: str) -> None:
    for command in (("score", tiny), ("rank", "tiny-gpt2", "-p", "params"), ("bench", "eval")):
        code, out, err = lpz(*command, "--json", "--csv")
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        assert "--csv" in err


def test_what_scores_leave_out_is_told_on_stderr_once_for_all_proxies(lpz: Lpz, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    tiny_model("mixtral").config.to_json_file(file)
    asked = ("-p", "fisher", "-p", "snip", "-p", "attention_confidence_lpzero")
    code, out, err = lpz("score", str(file), *asked, "--json", *SMALL)
    assert code == 0
    reasons = {row["proxy"]: row["reason"] for row in json.loads(out)["models"][0]["scores"]}
    assert reasons["snip"] == ""
    assert "6 of 14 linear layers were not read" in reasons["fisher"]
    assert err.count(reasons["fisher"]) == 1


def test_a_number_of_parameters_is_read_as_people_write_it() -> None:
    read = {"5M": 5_000_000, "1e6": 1_000_000, "1_000": 1000, "1.5B": 1_500_000_000, "0.3k": 300, "7": 7}
    assert {text: parameters(text) for text in read} == read


@pytest.mark.parametrize(
    "text",
    ["", "0", "-3", "5MB", "1/2", "nan", "inf", "1.00005k", "M", "5 M", "\uff11", "1e99999999999", "_", ".5", "0.5"],
)
def test_what_is_no_number_of_parameters_is_refused(text: str, lpz: Lpz) -> None:
    with pytest.raises(ValueError, match="no number"):
        parameters(text)
    code, _, message = lpz("nas", "tiny-gpt2", "-p", "num_heads", f"--max-params={text}", "--out", "nowhere")
    assert (code, "5M" in message) == (2, True)
