"""The zoo's published benchmarks: what is read from their files, and that it is what their authors describe."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import lpz_zoo
import pytest
import torch
import yaml
from lpz_zoo.benchmarks import (
    BENCHMARKS,
    FLEXIBERT_FILES,
    GEMSTONES_FILES,
    GPT2_FILES,
    LM1B,
    LM1B_FILES,
    WT103,
    GPT2Logs,
    flexibert_entries,
    gemstones_rows,
    gpt2_rows,
)
from lpz_zoo.gpt2 import FlexibleGPT2LMHeadModel
from lpz_zoo.remote_files import DownloadError, RemoteFiles
from scipy.stats import spearmanr
from torch import nn
from transformers import AutoModelForCausalLM

from lpzero_hf.benchmarks.benchmark import Benchmark, Trained, describe, read_made
from lpzero_hf.benchmarks.grade import chance, grade
from lpzero_hf.benchmarks.make import BenchmarkSpec, body_parameters
from lpzero_hf.benchmarks.train import Recipe
from lpzero_hf.errors import LpzError
from lpzero_hf.models.lazy import Source

_, TINY, FLEXIBERT, GPT2, GPT2_LM1B, GEMSTONES = BENCHMARKS
LOGS = WT103.logs


def folder(files: RemoteFiles) -> Path:
    """The folder of published files; skips the test where there is none."""
    try:
        return files.path()
    except DownloadError as error:
        if "are not here" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def flexibert() -> list[Trained]:
    """The entries of the FlexiBERT benchmark."""
    return flexibert_entries(folder(FLEXIBERT_FILES))


@pytest.fixture(scope="module")
def gpt2_wt103() -> list[Trained]:
    """The entries of the GPT-2 benchmark."""
    folder(GPT2_FILES)
    return GPT2.trained()


@pytest.fixture(scope="module")
def gpt2_lm1b() -> list[Trained]:
    """The entries of the GPT-2 benchmark on LM1B."""
    folder(LM1B_FILES)
    return GPT2_LM1B.trained()


@pytest.fixture(scope="module")
def gemstones() -> list[Trained]:
    """The entries of the Gemstones benchmark."""
    folder(GEMSTONES_FILES)
    return GEMSTONES.trained()


@cache
def published(logs: GPT2Logs, name: str = "params") -> dict[str, dict[str, float]]:
    """The numbers of parameters by model and part, or the perplexities, as LPZero's authors published them."""
    text = (logs.files.path() / logs.logs / f"{name}_summary.yaml").read_text()
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def published_counts() -> dict[str, dict[str, float]]:
    """Those of the models on WikiText-103."""
    return published(WT103)


def test_benchmarks_are_offered_without_torch_or_a_download() -> None:
    code = (
        "import sys; from lpz_zoo import lpz_benchmarks; print([b.name for b in lpz_benchmarks()]);"
        "print([name for name in ('torch', 'yaml', 'pooch', 'requests') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines() == ["['tiny-lm', 'tiny-gpt2', 'flexibert', 'gpt2-wt103', 'gpt2-lm1b', 'gemstones']", "[]"]


@pytest.mark.parametrize(
    ("benchmark", "files", "size"),
    [
        (FLEXIBERT, FLEXIBERT_FILES, 500),
        (GPT2, GPT2_FILES, 200),
        (GPT2_LM1B, LM1B_FILES, 200),
        (GEMSTONES, GEMSTONES_FILES, 22),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_every_entry_is_of_its_space_and_has_a_text_id(benchmark: Benchmark, files: RemoteFiles, size: int) -> None:
    folder(files)
    entries = benchmark.trained()
    space = benchmark.space
    assert len({entry.key for entry in entries}) == len(entries) == size
    for entry in entries:
        assert space.check(entry.architecture) is entry.architecture
        assert space.parse(space.text(entry.architecture)) == entry.architecture
        assert all(type(value) in (int, str) for row in entry.architecture.layers for value in row)


def test_flexibert_entry_is_as_in_the_file(flexibert: list[Trained]) -> None:
    last = flexibert[499]
    assert last.key == "499"
    assert last.quality == pytest.approx(72.5525, abs=1e-9)
    text = "h256-conv5.a4.f1024.n3-dft.a2.f1024.n1-sdp.a4.f512.n1-conv5.a4.f512.n3"
    assert FLEXIBERT.space.text(last.architecture) == text
    operations = Counter(row[0] for entry in flexibert for row in entry.architecture.layers)
    assert operations == {"dft": 278, "dct": 260, "sdp": 259, "conv5": 259, "wma": 244, "conv9": 222}


def test_gpt2_entry_is_as_in_the_files(gpt2_wt103: list[Trained]) -> None:
    (entry,) = (entry for entry in gpt2_wt103 if entry.key == "config_3_j7")
    assert (
        entry.quality
        == yaml.safe_load(
            (folder(GPT2_FILES) / LOGS / "ppl_summary.yaml").read_text().partition("config_3_j7:")[2].split("config")[0]
        )["valid_ppl"]
    )
    text = "d128.e128.k4-h8.i1755-h4.i1442-h4.i1730-h4.i1005-h4.i921-h8.i1199-h8.i1456-h2.i1320-h4.i1457"
    assert GPT2.space.text(entry.architecture) == text


def test_nine_flexibert_architectures_were_trained_twice(flexibert: list[Trained]) -> None:
    trainings = Counter(Counter(entry.architecture for entry in flexibert).values())
    assert trainings == {1: 482, 2: 9}


def test_all_gpt2_architectures_differ(gpt2_wt103: list[Trained], gpt2_lm1b: list[Trained]) -> None:
    assert len({entry.architecture for entry in gpt2_wt103}) == 200
    assert len({entry.architecture for entry in gpt2_lm1b}) == 200


def test_depth_ranks_flexibert_as_published(flexibert: list[Trained]) -> None:
    depths = [len(entry.architecture.layers) for entry in flexibert]
    rho = spearmanr(depths, [FLEXIBERT.target(entry) for entry in flexibert]).statistic
    assert round(rho, 3) == 0.834


@pytest.mark.parametrize(("part", "published"), [("nonembedding", 0.9670), ("Attn", 0.9765)])
def test_parameters_rank_gpt2_as_published(gpt2_wt103: list[Trained], part: str, published: float) -> None:
    counts = [published_counts()[entry.key][part] for entry in gpt2_wt103]
    rho = spearmanr(counts, [GPT2.target(entry) for entry in gpt2_wt103]).statistic
    assert round(rho, 4) == published


@pytest.mark.integration
def test_gpt2_models_have_the_published_numbers_of_parameters(gpt2_wt103: list[Trained]) -> None:
    for entry in gpt2_wt103:
        with torch.device("meta"):
            model = FlexibleGPT2LMHeadModel(GPT2.space.config(entry.architecture))
        body = model.transformer
        counts = {
            "AdaEmb": size(body.wte, body.wpe),
            "Attn": size(*(block.attn for block in body.h)),
            "FFN": size(*(block.mlp for block in body.h)),
            "nonembedding": size(body.h, body.ln_f),
            "total": size(model),
        }
        assert counts == published_counts()[entry.key], entry.key


def size(*modules: nn.Module) -> int:
    """The number of parameters of some modules."""
    return sum(parameter.numel() for parameter in nn.ModuleList(modules).parameters())


def test_the_perplexity_on_lm1b_is_one_number_under_two_names(gpt2_lm1b: list[Trained]) -> None:
    given = published(LM1B, "ppl")
    assert all(given[entry.key]["test_ppl"] == given[entry.key]["valid_ppl"] == entry.quality for entry in gpt2_lm1b)


@pytest.mark.integration
def test_gpt2_on_lm1b_has_the_published_numbers_of_parameters_but_for_attention(gpt2_lm1b: list[Trained]) -> None:
    for entry in gpt2_lm1b:
        with torch.device("meta"):
            model = FlexibleGPT2LMHeadModel(GPT2_LM1B.space.config(entry.architecture))
        body, counts = model.transformer, published(LM1B)[entry.key]
        depth, d = len(body.h), model.config.d_model
        assert size(*(block.mlp for block in body.h)) == counts["FFN"], entry.key
        assert size(body.wte) == counts["AdaEmb"], entry.key
        assert size(model.lm_head) == counts["total"] - counts["AdaEmb"] - counts["nonembedding"], entry.key
        assert size(*(block.attn for block in body.h)) == depth * (4 * d**2 + 4 * d), entry.key
        assert counts["Attn"] == depth * (5 * d**2 + 2 * d), entry.key


@pytest.mark.slow
def test_counts_rank_lm1b_as_the_published_ones_do(gpt2_lm1b: list[Trained]) -> None:
    report = grade("gpt2-lm1b", ["decoder_params", "attention_params"])
    targets = [GPT2_LM1B.target(entry) for entry in gpt2_lm1b]
    for proxy, part in (("decoder_params", "nonembedding"), ("attention_params", "Attn")):
        rho = spearmanr([published(LM1B)[entry.key][part] for entry in gpt2_lm1b], targets).statistic
        (graded,) = (graded for graded in report.grades if graded.proxy == proxy)
        assert graded.agreement is not None
        assert graded.agreement.spearman is not None
        assert graded.agreement.spearman.value == pytest.approx(rho, abs=0.01)


def test_one_cluster_is_a_plain_softmax_whatever_k() -> None:
    ids = torch.randint(0, 50264, (1, 8), generator=torch.Generator().manual_seed(1))
    for k in (1, 4):
        config = GPT2_LM1B.space.config(GPT2_LM1B.space.parse(f"d128.k{k}-h2.i512-h8.i700"))
        model = FlexibleGPT2LMHeadModel(config).eval()
        assert [list(table.weight.shape) for table in model.transformer.wte.tables] == [[50264, 128]]
        logits = model(ids).logits
        torch.testing.assert_close(logits.exp().sum(-1), torch.ones(1, 8), rtol=1e-4, atol=1e-4)
        wanted = nn.functional.nll_loss(logits[0, :-1], ids[0, 1:])
        torch.testing.assert_close(model(ids, labels=ids).loss, wanted)


@pytest.mark.integration
def test_gemstones_have_the_published_numbers_of_parameters(gemstones: list[Trained]) -> None:
    text = (folder(GEMSTONES_FILES) / GEMSTONES_FILE).read_text()
    counts = {
        f"{row['width']}x{row['depth']}": row["params_active_precise"] for row in map(json.loads, text.splitlines())
    }
    assert counts.keys() == {entry.key for entry in gemstones}
    for entry in gemstones:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(GEMSTONES.space.config(entry.architecture))
        assert size(model) == counts[entry.key], entry.key


def test_gemstones_entry_is_the_loss_at_100_billion_tokens(gemstones: list[Trained]) -> None:
    (entry,) = (entry for entry in gemstones if entry.key == "1024x28")
    assert entry.quality == 2.7677679062
    assert GEMSTONES.space.text(entry.architecture) == "w1024-l28"
    assert entry.extra == {"tokens": 100034150400, "params_active_precise": 543482880}
    (early,) = (row for row in gemstones_rows(folder(GEMSTONES_FILES), 10e9) if row["key"] == "1024x28")
    assert early["final_loss"] == 3.1010556221


def test_parameters_rank_gemstones_as_the_notes_say(gemstones: list[Trained]) -> None:
    report = grade("gemstones", "params")
    (graded,) = (graded for graded in report.grades if graded.proxy == "params")
    assert graded.agreement is not None
    assert graded.agreement.spearman is not None
    assert round(graded.agreement.spearman.value, 2) == 0.97


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda benchmark: benchmark.name)
def test_every_benchmark_says_where_it_comes_from_and_what_is_wrong_with_it(benchmark: Benchmark) -> None:
    assert benchmark.citation
    assert benchmark.license
    assert benchmark.notes


# Files that are not as published --------------------------------------------------------------------------


RECORD = {
    "id": 7,
    "is_running": False,
    "completed": True,
    "scores": {"glue": 70.5},
    "hparams": {
        "model_hparam_overrides": {
            "hidden_size": 128,
            "nas_config": {
                "encoder_layers": [
                    {
                        "operation_type": kind,
                        "operation_parameter": parameter,
                        "num_operation_heads": 2,
                        "feed_forward_dimension": 512,
                        "num_feed_forward": 1,
                    }
                    for kind, parameter in (("DSC", 9), ("SA", "WMA"))
                ]
            },
        }
    },
}
"""A record of the FlexiBERT file."""

CONFIG = """
n_token: 50264
tgt_len: 192
adaptive: true
cutoffs: [19997, 39997, 199997, 50264]
tie_weight: true
tie_projs: [false, true, true, true]
d_head: -1
attn_type: 0
pre_lnorm: false
primer_conv: false
primer_square: false
dropout: 0.1
dropatt: 0.0
d_model: 64
d_embed: 128
div_val: 2
n_layer: 2
n_head: [2, 8]
d_inner: [512, 2048]
"""


def write_flexibert(folder: Path, change: Callable[[str], str]) -> Path:
    """A file of one record, changed."""
    path = folder / "BERT_benchmark.json"
    path.write_text(change(json.dumps([RECORD])))
    return path


def write_gpt2(folder: Path, summary: str, config: str, which: GPT2Logs = WT103) -> Path:
    """The files of one model; the configuration's is returned."""
    path = folder / which.logs / "config_12" / "j3" / "model_config.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(config)
    (folder / which.logs / "ppl_summary.yaml").write_text(summary)
    return path


GEMSTONES_FILE = "wandb_df_for_fitting_hot_100b+.jsonl"
RUN = {
    "run_name": "PyGemma-256x23_pretrain",
    "params_active_precise": 48377600,
    "width": 256,
    "depth": 23,
    "tokens": 100034150400,
    "final_loss": 3.4,
}
"""A row of the Gemstones file."""


def write_gemstones(folder: Path, *rows: str) -> Path:
    """A file of some rows."""
    path = folder / GEMSTONES_FILE
    path.write_text("\n".join(rows))
    return path


def message(read: Callable[[], Any]) -> str:
    """The error that `read` raises, which must be one line."""
    with pytest.raises(LpzError) as error:
        read()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_small_files_are_read(tmp_path: Path) -> None:
    write_flexibert(tmp_path, str)
    (bert,) = flexibert_entries(tmp_path)
    assert (bert.key, bert.quality) == ("7", 70.5)
    assert FLEXIBERT.space.text(bert.architecture) == "h128-conv9.a2.f512.n1-wma.a2.f512.n1"
    write_gpt2(tmp_path, "config_12_j3: {test_ppl: 31.0, valid_ppl: 30.5}", CONFIG)
    (gpt2,) = gpt2_rows(tmp_path)
    assert (gpt2["key"], gpt2["valid_ppl"]) == ("config_12_j3", 30.5)
    assert GPT2.space.text(gpt2["architecture"]) == "d64.e128.k2-h2.i512-h8.i2048"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text[:-20], "JSON"),
        (lambda text: text.replace('"glue"', '"other"'), "KeyError: 'glue'"),
        (lambda text: text.replace('"completed": true', '"completed": false'), "model 7"),
        (lambda text: text.replace('"WMA"', '"XYZ"'), "('SA', 'XYZ')"),
        (lambda text: text.replace("512", "513"), "513"),
        (lambda text: text.replace("70.5", "null"), "TypeError"),
        (lambda text: "[1]", "TypeError"),
    ],
)
def test_changed_flexibert_file_is_named(tmp_path: Path, change: Callable[[str], str], words: str) -> None:
    path = write_flexibert(tmp_path, change)
    said = message(lambda: flexibert_entries(tmp_path))
    assert f"'{path}'" in said
    assert words in said
    assert "`lpz bench get flexibert`" in said


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("n_token: 50264", "n_token: 50257", "n_token"),
        ("adaptive: true", "adaptive: false", "adaptive"),
        ("19997, 39997", "19997, 39998", "cutoffs is"),
        ("[false, true, true, true]", "[true, true, true, true]", "tie_projs"),
        ("n_layer: 2", "n_layer: 3", "n_layer"),
        ("n_head: [2, 8]", "n_head: [2]", "ValueError: zip()"),
        ("n_head: [2, 8]", "n_head: [2, 3]", "heads 3"),
        ("d_model: 64", "", "KeyError: 'd_model'"),
        ("n_head: [2, 8]", "n_head: [2, 8", "YAML"),
        ("", "- ", "YAML"),
    ],
)
def test_changed_gpt2_configuration_is_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = write_gpt2(tmp_path, "config_12_j3: {valid_ppl: 30.5}", CONFIG.replace(old, new, 1))
    said = message(lambda: gpt2_rows(tmp_path))
    assert f"'{path}'" in said
    assert words in said
    assert "`lpz bench get gpt2-wt103`" in said


LM1B_CONFIG = (
    CONFIG.replace("tgt_len: 192", "tgt_len: 32")
    .replace("19997, 39997, 199997", "59997, 99997, 639997")
    .replace("[false, true, true, true]", "[false, false, false, false]")
    .replace("d_embed: 128", "d_embed: -1")
    .replace("d_model: 64", "d_model: 128")
)


def test_small_lm1b_files_are_read(tmp_path: Path) -> None:
    write_gpt2(tmp_path, "config_12_j3: {test_ppl: 61.0, valid_ppl: 60.5}", LM1B_CONFIG, LM1B)
    (row,) = gpt2_rows(tmp_path, LM1B)
    assert (row["key"], row["test_ppl"]) == ("config_12_j3", 61.0)
    assert GPT2_LM1B.space.text(row["architecture"]) == "d128.k2-h2.i512-h8.i2048"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("d_embed: -1", "d_embed: 256", "d_embed"),
        ("tgt_len: 32", "tgt_len: 192", "tgt_len"),
        ("59997", "19997", "cutoffs is"),
        ("d_model: 128", "d_model: 64", "d_model 64"),
    ],
)
def test_changed_lm1b_configuration_is_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = write_gpt2(tmp_path, "config_12_j3: {test_ppl: 60.5}", LM1B_CONFIG.replace(old, new, 1), LM1B)
    said = message(lambda: gpt2_rows(tmp_path, LM1B))
    assert f"'{path}'" in said
    assert words in said
    assert "`lpz bench get gpt2-lm1b`" in said


def test_small_gemstones_files_are_read_smallest_first_and_nearest_to_the_tokens(tmp_path: Path) -> None:
    larger = RUN | {"run_name": "PyGemma-512x12_pretrain", "width": 512, "depth": 12, "params_active_precise": 98710016}
    early = RUN | {"tokens": 90030735360, "final_loss": 3.5}
    write_gemstones(tmp_path, *map(json.dumps, (larger, early, RUN)))
    rows = gemstones_rows(tmp_path)
    assert [(row["key"], row["final_loss"]) for row in rows] == [("256x23", 3.4), ("512x12", 3.4)]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (json.dumps(RUN)[:-9], "JSON"),
        (json.dumps(RUN | {"width": 257}), "width 257"),
        (json.dumps(RUN | {"depth": 2}), "2 layers"),
        (json.dumps({k: v for k, v in RUN.items() if k != "final_loss"}), "KeyError: 'final_loss'"),
        (json.dumps(RUN | {"final_loss": None}), "TypeError"),
        (json.dumps(RUN | {"tokens": 90030735360}), "1e+11 tokens"),
        ("[1]", "TypeError"),
    ],
)
def test_changed_gemstones_file_is_named(tmp_path: Path, row: str, words: str) -> None:
    path = write_gemstones(tmp_path, row)
    said = message(lambda: gemstones_rows(tmp_path))
    assert f"'{path}'" in said
    assert words in said
    assert "`lpz bench get gemstones`" in said


@pytest.mark.parametrize("summary", ["config_12_j3: {test_ppl: 31.0}", "config_12_j3: {valid_ppl: [}", "- 3"])
def test_changed_gpt2_summary_is_named(tmp_path: Path, summary: str) -> None:
    write_gpt2(tmp_path, summary, CONFIG)
    assert f"'{tmp_path / LOGS / 'ppl_summary.yaml'}'" in message(lambda: gpt2_rows(tmp_path))


def test_missing_gpt2_configuration_is_named(tmp_path: Path) -> None:
    path = write_gpt2(tmp_path, "config_12_j3: {valid_ppl: 30.5}", CONFIG)
    shutil.rmtree(path.parent)
    assert f"'{path}'" in message(lambda: gpt2_rows(tmp_path))


def test_tiny_gpt2_is_shipped_with_its_noise() -> None:
    entries, told = TINY.trained(), describe(TINY)
    assert len({entry.architecture for entry in entries}) == len(entries) == 128
    assert all(TINY.space.parse(entry.key) == entry.architecture for entry in entries)
    assert told["noise"]["architectures_with_several_seeds"] == 16
    assert told["noise"]["seeds"] == 3
    assert told["noise"]["spearman_between_seeds"] > 0.85 > chance(16)
    assert (Path(lpz_zoo.__file__).parent / "data" / "tiny-gpt2.json").stat().st_size < 1_000_000


@pytest.mark.integration
def test_tiny_gpt2_was_drawn_and_built_as_its_plan_says() -> None:
    document = read_made(Path(lpz_zoo.__file__).parent / "data" / "tiny-gpt2.json")
    plan = BenchmarkSpec(**document["plan"] | {"recipe": Recipe(**document["plan"]["recipe"])})
    runs = [(row["architecture"], row["seed"]) for row in document["trained"]]
    assert plan.runs(TINY.space) == runs
    sizes = [body_parameters(TINY.space, TINY.space.parse(name)) for name, _ in runs[:8]]
    assert sizes == [row["body_parameters"] for row in document["trained"][:8]]
    assert all(100_000 <= row["body_parameters"] <= 3_000_000 for row in document["trained"])
    assert all(len(row["curve"]) == plan.recipe.evaluations for row in document["trained"])


def test_counts_grade_gemstones_without_a_weight_in_memory(
    gemstones: list[Trained], lpz: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*arguments: Any) -> None:
        raise AssertionError("it was built")

    monkeypatch.setenv("LPZ_CACHE", str(tmp_path))
    monkeypatch.setattr("lpzero_hf.models.build.Source", lambda whole, reader, device: Source(build, reader, device))
    code, out, err = lpz("bench", "eval", "gemstones", "-p", "num_layers", "-p", "params", "--workers", "1", "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["scores"]["num_layers"] == [len(entry.architecture.layers) for entry in gemstones]
    assert document["scores"]["params"][0] == 48377600
    assert document["grades"][0]["agreement"]["n"] == 22


def test_gemstones_show_their_source_licence_and_flaws(
    gemstones: list[Trained], lpz: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, _ = lpz("bench", "show", "gemstones", "--json")
    facts = json.loads(out)
    assert (code, facts["architectures"], facts["license"]) == (0, 22, "MIT")
    assert "arXiv:2502.06857" in facts["citation"]
    assert "0.97" in facts["notes"]
