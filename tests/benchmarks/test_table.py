"""Tables of trained architectures as benchmarks: how they are read, and what is said about bad ones."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import LlamaConfig

from lpzero_hf import benchmark_from_rows, benchmark_from_table, grade, load_benchmark, load_space
from lpzero_hf.benchmarks.benchmark import describe
from lpzero_hf.benchmarks.table_options import TableOptions, usual_direction
from lpzero_hf.errors import LpzError, ModelError, TableWarning, UsageError

pandas = pytest.importorskip("pandas")
BASE: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 4096, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64
}  # fmt: skip
WIDTHS = (32, 48, 64, 80)
ROWS: list[dict[str, Any]] = [
    {"hidden_size": width, "seed": 1, "tokens": 1000 * place, "val_loss": 5 - 0.25 * place}
    for place, width in enumerate(WIDTHS)
]
CONFIGS = [BASE | {"hidden_size": width} for width in WIDTHS]
CELLS = [{"config": config, "val_loss": 4 - 0.5 * place} for place, config in enumerate(CONFIGS)]
HEADER = "hidden_size,seed,tokens,val_loss\n"
CSV = HEADER + "".join(",".join(map(str, row.values())) + "\n" for row in ROWS)


def as_csv(rows: list[dict[str, Any]], path: Path) -> Path:
    frame = pandas.DataFrame([{k: json.dumps(v) if isinstance(v, dict) else v for k, v in r.items()} for r in rows])
    frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


def as_json(rows: list[dict[str, Any]], path: Path) -> Path:
    path.write_text(json.dumps(rows))
    return path


def as_lines(rows: list[dict[str, Any]], path: Path) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def as_parquet(rows: list[dict[str, Any]], path: Path) -> Path:
    pytest.importorskip("pyarrow")
    pandas.DataFrame(rows).to_parquet(path)
    return path


WRITERS: dict[str, Callable[[list[dict[str, Any]], Path], Any]] = {
    ".csv": as_csv, ".tsv": as_csv, ".json": as_json, ".jsonl": as_lines, ".ndjson": as_lines, ".parquet": as_parquet,
    "frame": lambda rows, path: pandas.DataFrame(rows), "list": lambda rows, path: rows,
}  # fmt: skip


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("rows", [ROWS, CELLS], ids=["fields", "configs"])
def test_every_form_of_a_table_is_the_same_benchmark(rows: list[dict[str, Any]], form: str, tmp_path: Path) -> None:
    source = WRITERS[form](rows, tmp_path / f"runs{form}")
    benchmark = benchmark_from_table(source, "val_loss", base=BASE if rows is ROWS else None)
    entries = benchmark.trained()
    assert [entry.quality for entry in entries] == [row["val_loss"] for row in rows]
    assert [benchmark.space.config(entry.architecture).hidden_size for entry in entries] == list(WIDTHS)
    assert [entry.extra for entry in entries] == [
        {key: row[key] for key in ("seed", "tokens") if key in row} for row in rows
    ]
    assert not benchmark.larger_is_better
    assert benchmark.space.size() == 4


def test_fields_that_the_class_computes_follow_unless_they_are_set() -> None:
    def widths(base: Any) -> list[int]:
        benchmark = benchmark_from_table(ROWS, "val_loss", base=base)
        return [benchmark.space.config(entry.architecture).head_dim for entry in benchmark.trained()]

    saved = LlamaConfig(**{key: value for key, value in BASE.items() if key != "model_type"}, hidden_size=64)
    assert saved.to_dict()["head_dim"] == 16
    assert widths(BASE) == widths(saved) == widths(json.dumps(BASE)) == [8, 12, 16, 20]
    assert widths(BASE | {"head_dim": 6}) == [6, 6, 6, 6]


def test_nested_fields_and_other_names_are_columns_too() -> None:
    rows = [
        {"n_layer": n, "rope_parameters.rope_theta": 10.0**n, "loss": n}
        for n in (1, 2, 3)
    ]  # fmt: skip
    with pytest.raises(UsageError, match="did you mean"):  # Llama has no such name
        benchmark_from_table(rows, "loss", base=BASE)
    rows = [{"num_hidden_layers" if k == "n_layer" else k: v for k, v in row.items()} for row in rows]
    benchmark = benchmark_from_table(rows, "loss", base=BASE)
    config = benchmark.space.config(benchmark.trained()[1].architecture)
    assert (config.num_hidden_layers, config.rope_parameters["rope_theta"]) == (2, 100)


def test_configurations_come_from_paths_names_and_ids(tmp_path: Path) -> None:
    LlamaConfig(hidden_size=32, num_attention_heads=2).save_pretrained(tmp_path / "folder")
    (tmp_path / "one.json").write_text(json.dumps(CONFIGS[0]))
    space = load_space("tiny-gpt2")
    member = f"tiny-gpt2:{space.text(space.samples(1)[0])}"
    file = tmp_path / "runs.csv"
    file.write_text(f"Model,ppl\none.json,3\nfolder,4\ngpt2-variant,5\n{member},6\n")
    benchmark = benchmark_from_table(file, "ppl")
    configs = benchmark.configs(benchmark.trained())
    assert list(configs) == ["one.json", "folder", "gpt2-variant", member]
    assert [config.model_type for config in configs.values()] == ["llama", "llama", "gpt2", "lpz-gpt2"]


@pytest.mark.parametrize("prefix", ["", "tiny-gpt2:"])
def test_ids_of_a_space_keep_that_space(prefix: str) -> None:
    space = load_space("tiny-gpt2")
    drawn = space.samples(5)
    rows = [{"arch": prefix + space.text(one), "acc": place} for place, one in enumerate(drawn)]
    benchmark = benchmark_from_table(rows, "acc", space="tiny-gpt2", larger_is_better=True)
    assert benchmark.space is space
    assert [entry.architecture for entry in benchmark.trained()] == drawn
    assert [entry.key for entry in benchmark.trained()] == [space.text(one) for one in drawn]


def test_ids_as_commands_print_them_are_read_in_the_space_of_their_file(tmp_path: Path) -> None:
    file = tmp_path / "my space.yaml"
    text = "base: {model_type: llama, vocab_size: 64}\nchoices: {num_hidden_layers: [1, 2, 3, 4]}\n"
    file.write_text(text)
    for prefix in ("", "my space.yaml:", f"{file}:", "my-space:"):
        rows = [{"arch": f"{prefix}num_hidden_layers={depth}", "loss": depth} for depth in (1, 2, 4)]
        found = benchmark_from_table(rows, "loss", space=str(file)).trained()
        assert [entry.key for entry in found] == [f"num_hidden_layers={depth}" for depth in (1, 2, 4)]
    rows.append({"arch": "other.yaml:num_hidden_layers=3", "loss": 3})
    with pytest.raises(LpzError, match=r"row 4 .*choice"):
        benchmark_from_table(rows, "loss", space=str(file))


@pytest.mark.parametrize("separator", [";", "|", "\t"])
def test_other_separators_are_seen_in_the_header(separator: str, tmp_path: Path) -> None:
    file = tmp_path / "runs.csv"
    file.write_text(CSV.replace(",", separator))
    assert len(benchmark_from_table(file, "val_loss", base=BASE).trained()) == 4


def test_a_column_called_as_a_nested_field_is_no_note() -> None:
    rows = [{"hidden_size": width, "rope_theta": 10**place, "loss": place} for place, width in enumerate(WIDTHS)]
    with pytest.raises(UsageError, match=r"rope_parameters\.rope_theta"):
        benchmark_from_table(rows, "loss", base=BASE)
    benchmark = benchmark_from_table(rows, "loss", base=BASE, extra_columns="rope_theta")
    assert benchmark.trained()[1].extra == {"rope_theta": 10}


def test_rows_of_one_architecture_are_seeds_with_their_noise() -> None:
    rows = [
        {"hidden_size": width, "seed": seed, "loss": 5 - place + 0.01 * seed * (-1) ** place, "tokens": seed}
        for place, width in enumerate(WIDTHS)
        for seed in (7, 9)
    ]
    benchmark = benchmark_from_table(rows, "loss", base=BASE)
    entries = benchmark.trained()
    assert [entry.quality for entry in entries] == pytest.approx([5.08, 3.92, 3.08, 1.92])
    assert entries[0].extra == {"seed": [7, 9], "tokens": [7, 9]}
    noise = describe(benchmark)["noise"]
    assert (noise["seeds"], noise["architectures_with_several_seeds"], noise["spearman_between_seeds"]) == (2, 4, 1)
    assert noise["standard_deviation_of_a_seed"] == pytest.approx(0.02 / math.sqrt(2))


def test_without_a_column_of_seeds_the_noise_is_that_within_architectures() -> None:
    rows = [{"hidden_size": width, "loss": loss} for width in WIDTHS for loss in (width, width + width / 16)]
    noise = describe(benchmark_from_table(rows, "loss", base=BASE))["noise"]
    expected = math.sqrt(statistics.fmean((width / 16) ** 2 / 2 for width in WIDTHS))
    assert noise == {
        "architectures_with_several_seeds": 4, "standard_deviation_of_a_seed": pytest.approx(expected)
    }  # fmt: skip


def test_a_column_of_names_keeps_architectures_apart_that_were_trained_twice() -> None:
    rows = [{"name": f"run {place}", "config": CONFIGS[place % 4], "loss": place} for place in range(6)]
    named = benchmark_from_rows(lambda: rows, "loss", name="mine", key_column="name", unit="nats").trained()
    assert [entry.key for entry in named] == [row["name"] for row in rows]
    assert named[0].architecture == named[4].architecture
    assert len(benchmark_from_rows(rows, "loss", name="mine").trained()) == 4


def test_rows_are_read_when_they_are_needed() -> None:
    def missing() -> list[dict[str, Any]]:
        raise LpzError("not downloaded")

    benchmark = benchmark_from_rows(missing, "loss", name="later", unit="loss at 1B tokens")
    assert (benchmark.space.name, benchmark.metric, benchmark.here()) == ("later", "loss at 1B tokens", False)
    with pytest.raises(LpzError, match="not downloaded"):
        benchmark.trained()


def test_cells_of_data_frames_and_numpy_are_plain_values() -> None:
    frame = pandas.DataFrame({"hidden_size": [32, 48, None, 64], "val_loss": np.float32([4, 3, 2, 1])})
    benchmark = benchmark_from_table(frame, "val_loss", base=BASE | {"hidden_size": 16})
    widths = [benchmark.space.config(entry.architecture).hidden_size for entry in benchmark.trained()]
    assert widths == [32, 48, 16, 64]
    assert all(type(width) is int for width in widths)


@pytest.mark.parametrize(
    "text",
    ["\ufeff" + CSV, CSV.replace("\n", "\r\n"), CSV.replace(",", ";"), CSV.replace("\n", "\n\n"), CSV + ",,,\n"],
    ids=["byte order mark", "Windows", "semicolons", "blank lines", "empty row"],
)
def test_csv_as_other_programs_write_it(text: str, tmp_path: Path) -> None:
    file = tmp_path / "runs.csv"
    file.write_bytes(text.encode())
    assert len(benchmark_from_table(file, "val_loss", base=BASE).trained()) == 4


def text_file(text: str | bytes, suffix: str = ".csv") -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        file = folder / f"runs{suffix}"
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return file

    return write


def lines_of(*rows: str) -> Callable[[Path], Path]:
    return text_file(HEADER + "".join(f"{row}\n" for row in ("32,1,0,5", "48,1,0,4", "64,1,0,3", *rows)))


def jsonl_of(*lines: str) -> Callable[[Path], Path]:
    return text_file("\n".join([*map(json.dumps, CELLS), *lines]), ".jsonl")


BAD_ROWS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "NaN": (lines_of("80,1,0,nan"), "line 5"),
    "empty metric": (lines_of("80,1,0,"), "line 5"),
    "infinite metric": (lines_of("80,1,0,inf"), "line 5"),
    "huge metric": (lines_of("80,1,0," + "9" * 500), "line 5"),
    "text as metric": (lines_of("80,1,0,diverged"), "line 5"),
    "comma in a number": (lines_of('80,1,0,"3,2"'), "line 5"),
    "text in a field": (lines_of("wide,1,0,3"), "line 5"),
    "fraction in a field": (lines_of("80.5,1,0,3"), "line 5"),
    "truth in a field": (lines_of("true,1,0,3"), "line 5"),
    "infinite field": (lines_of("inf,1,0,3"), "line 5"),
    "repeated row": (lines_of("48,1,0,3.5"), "line 5.*line 3"),
    "no seed": (lines_of("80,,0,3"), "line 5"),
    "few cells": (lines_of("80,1"), "line 5"),
    "many cells": (lines_of("80,1,0,3,9"), "line 5"),
    "after a cell of two lines": (lines_of('80,1,"a\nb",2.5', "96,1,0,nan"), "line 7"),
    "broken quotes": (lines_of('80,1,"a"b,3'), "line 5"),
    "broken JSON cell": (jsonl_of('{"config": "{\'model_type\': 1", "val_loss": 3}'), "line 5"),
    "a list as configuration": (jsonl_of('{"config": [1], "val_loss": 3}'), "line 5"),
    "a list of JSON": (jsonl_of('{"config": "[1]", "val_loss": 3}'), "line 5"),
    "no model_type": (jsonl_of('{"config": {"hidden_size": 3}, "val_loss": 3}'), "line 5.*model_type"),
    "unknown model_type": (jsonl_of('{"config": {"model_type": "lama"}, "val_loss": 3}'), "line 5.*llama"),
    "no configuration": (jsonl_of('{"val_loss": 3}'), "line 5"),
    "path not there": (jsonl_of('{"config": "configs/none.json", "val_loss": 3}'), "line 5.*none.json"),
    "not an object": (jsonl_of("[1, 2]"), "line 5"),
    "broken line": (jsonl_of('{"config":'), "line 5"),
    "deep": (jsonl_of("[" * 500 + "]" * 500), "line 5"),
    "half a surrogate pair": (jsonl_of('{"config": "\\ud800", "val_loss": 3}'), "line 5"),
    "number as configuration": (jsonl_of('{"config": 7, "val_loss": 3}'), "line 5"),
    "text where numbers are": (jsonl_of(json.dumps(CELLS[0] | {"val_loss": "3.5"})), "line 5"),
    "unknown id": (jsonl_of('{"config": "tiny-gpt2:d1", "val_loss": 3}'), "line 5"),
}
KEYS = {".csv": {"base": BASE}, ".jsonl": {}}


@pytest.mark.parametrize("bad", BAD_ROWS)
def test_a_bad_row_is_named_or_skipped_and_counted(bad: str, tmp_path: Path) -> None:
    write, place = BAD_ROWS[bad]
    file = write(tmp_path)
    options: Any = KEYS[file.suffix]
    with pytest.raises(LpzError, match=place) as caught:
        benchmark_from_table(file, "val_loss", **options)
    message = str(caught.value)
    assert "\n" not in message
    assert f"'{file}'" in message
    assert "skip_bad_rows=True" in message
    with pytest.warns(TableWarning, match="1 of"):
        benchmark = benchmark_from_table(file, "val_loss", skip_bad_rows=True, **options)
    whole = {*range(2, 5)} if file.suffix == ".csv" else {*range(1, 5)}
    assert len(benchmark.trained()) == len(whole) + (bad == "after a cell of two lines")
    assert sum(describe(benchmark)["rows_left_out"].values()) == 1


BAD_TABLES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no such file": (lambda folder: folder / "none.csv", "there is no table"),
    "a folder": (lambda folder: folder, "is a folder"),
    "no rows": (text_file(""), "empty"),
    "a header only": (text_file(HEADER), "no rows"),
    "an empty list": (text_file("[]", ".json"), "no rows"),
    "fewer than three": (text_file(HEADER + "32,1,0,5\n48,1,0,4\n"), "at least 3"),
    "one architecture": (text_file(HEADER + "".join(f"32,{i},0,{i}\n" for i in range(5))), "at least 3"),
    "all equal": (text_file(HEADER + "".join(f"{32 * i},1,0,5\n" for i in range(1, 5))), "nothing can be ranked"),
    "another column twice": (text_file("hidden_size,loss,loss\n1,2,3\n"), "twice"),
    "no metric": (text_file(CSV.replace("val_loss", "vall_loss")), "did you mean 'vall_loss'"),
    "another case": (text_file(CSV.replace("val_loss", "Val_Loss")), "did you mean 'Val_Loss'"),
    "a misspelled field": (text_file(CSV.replace("hidden_size", "hiden_size")), "did you mean 'hidden_size'"),
    "no field": (text_file(CSV.replace("hidden_size", "colour")), "no column of"),
    "one field twice": (text_file(CSV.replace("tokens", "hidden_size")), "twice"),
    "Latin-1": (text_file(CSV.encode() + b"64,1,caf\xe9,2\n"), "line 6"),
    "UTF-16": (text_file(CSV.encode("utf-16")), "line 1"),
    "binary": (text_file(bytes(range(256)) * 9), "line 1"),
    "no Parquet": (text_file(CSV, ".parquet"), "readable Parquet"),
    "no list": (text_file("{}", ".json"), "no list of records"),
    "no JSON": (text_file(CSV, ".json"), "JSON"),
    "a workbook": (text_file(b"PK", ".xlsx"), "is unknown"),
    "a number": (lambda folder: 7, "not a int"),
}


@pytest.mark.parametrize("bad", BAD_TABLES)
def test_a_table_that_is_bad_as_a_whole_is_refused_in_one_line(bad: str, tmp_path: Path) -> None:
    write, words = BAD_TABLES[bad]
    if bad == "no Parquet":
        pytest.importorskip("pyarrow")
    with pytest.raises(LpzError, match=words) as caught:
        benchmark_from_table(write(tmp_path), "val_loss", base=BASE)
    assert "\n" not in str(caught.value)


def test_ambiguous_columns_are_listed() -> None:
    rows = [{"model": "a", "config": "b", "loss": 1}]
    with pytest.raises(UsageError, match="architecture="):
        benchmark_from_table(rows, "loss")
    with pytest.raises(UsageError, match="architecture="):
        benchmark_from_table([{"width": 1, "loss": 1}], "loss")
    with pytest.raises(UsageError, match="base="):
        benchmark_from_table(ROWS, "val_loss", base=BASE, architecture="hidden_size")


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ({"hidden_size": 3}, "model_type"),
        ({"model_type": "lama"}, "llama"),
        ('{"model_type": "llama"', "JSON"),
        ("none.json", "there is no"),
        (7, "base="),
    ],
)
def test_a_bad_base_is_refused(base: Any, words: str) -> None:
    with pytest.raises(LpzError, match=words):
        benchmark_from_table(ROWS, "val_loss", base=base)


def test_a_column_that_is_called_nearly_as_a_field_may_be_something_else() -> None:
    rows = [row | {"hidden_sizes": "many"} for row in ROWS]
    with pytest.raises(UsageError, match=r"hidden_sizes.*extra_columns="):
        benchmark_from_table(rows, "val_loss", base=BASE)
    benchmark = benchmark_from_table(rows, "val_loss", base=BASE, extra_columns=["hidden_sizes"])
    assert benchmark.trained()[0].extra["hidden_sizes"] == "many"


UNBUILT = [*ROWS, {"hidden_size": 33, "seed": 1, "tokens": 0, "val_loss": 1}]  # not a multiple of the heads


def test_a_configuration_that_does_not_build_is_named_by_its_row_when_it_is_built(tmp_path: Path) -> None:
    file = as_csv(UNBUILT, tmp_path / "runs.csv")
    benchmark = benchmark_from_table(file, "val_loss", base=BASE)
    assert len(benchmark.trained()) == 5
    for build in (lambda: grade(benchmark, "params"), lambda: describe(benchmark)):
        with pytest.raises(ModelError, match="line 6 of") as caught:
            build()
        assert "skip_bad_rows=True" in str(caught.value)


def test_a_configuration_that_does_not_build_is_skipped_and_counted(tmp_path: Path) -> None:
    file = as_csv(UNBUILT, tmp_path / "runs.csv")
    benchmark = benchmark_from_table(file, "val_loss", base=BASE, skip_bad_rows=True)
    with pytest.warns(TableWarning, match="1 of 5 architectures"):
        report = grade(benchmark, "params")
    assert len(report.trained) == 4
    assert {graded.agreement.n for graded in report.grades if graded.agreement} == {4}
    assert (report.metric, report.larger_is_better) == ("val_loss", False)


def test_a_table_is_a_benchmark_by_its_path(tmp_path: Path) -> None:
    file = as_csv(ROWS, tmp_path / "runs.csv")
    with pytest.raises(UsageError, match="metric="):
        load_benchmark(file)
    options = TableOptions("val_loss", base=json.dumps(BASE))
    benchmark = load_benchmark(str(file), table=options)
    assert (benchmark.name, len(benchmark.trained())) == ("runs", 4)
    assert TableOptions.from_json(json.loads(json.dumps(vars(options)))) == options


@pytest.mark.parametrize(
    ("metric", "expected"),
    [("val_loss", False), ("test-ppl", False), ("Accuracy", True), ("glossary", None), ("loss_accuracy", None)],
)
def test_only_well_known_names_tell_which_end_is_better(metric: str, expected: bool | None) -> None:
    assert usual_direction(metric) is expected
