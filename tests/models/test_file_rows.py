"""Every kind of table gives the same column; nothing is read whole; what is wrong is one line with its place."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import tracemalloc
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest

from lpzero_hf import DatasetText, minibatch
from lpzero_hf.errors import LpzError, MinibatchError, UsageError
from lpzero_hf.models.file_rows import column_of, is_table
from lpzero_hf.models.text_source import texts_of

ROWS = [{"id": i, "text": f'row {i}, "naïve" — 北京\nand on'} for i in range(70)] + [{"id": 70, "text": None}]
TEXTS = [row["text"] for row in ROWS if row["text"]]


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def written(kind: str, path: Path) -> None:
    """A table with the rows above."""
    frame, table = pandas.DataFrame(ROWS), pyarrow.Table.from_pylist(ROWS)
    match kind:
        case ".jsonl" | ".ndjson":
            path.write_bytes(b"\xef\xbb\xbf" + lines(ROWS) + b"\n")
        case ".json":
            path.write_text(json.dumps(ROWS, indent=2))
        case ".csv":
            frame.to_csv(path, index=False)
        case ".tsv":
            frame.to_csv(path, index=False, sep="\t")
        case ".parquet":
            frame.to_parquet(path)
        case ".feather":
            frame.to_feather(path)
        case ".arrow":
            with pyarrow.ipc.new_stream(path, table.schema) as stream:
                stream.write_table(table)


@pytest.mark.parametrize("packed", ["", ".gz", ".bz2", ".xz"])
@pytest.mark.parametrize("kind", [".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".feather", ".arrow"])
def test_every_kind_of_table_gives_the_same_texts(kind: str, packed: str, tmp_path: Path) -> None:
    path = tmp_path / f"T{kind.upper()}"
    written(kind, path)
    if packed:
        pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}[packed]
        path.with_name(path.name + packed).write_bytes(pack(path.read_bytes()))
        path = path.with_name(path.name + packed)
    assert list(texts_of(DatasetText(str(path)))) == TEXTS
    assert is_table(path)


def test_json_lines_may_be_called_json(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_bytes(lines(ROWS))
    assert list(texts_of(DatasetText(str(tmp_path / "t.json")))) == TEXTS


@pytest.mark.parametrize("length", [70_000, 400_000])
def test_long_items_and_fields_are_read_across_chunks(length: int, tmp_path: Path) -> None:
    rows = [{"text": "a" * length}, {"text": "b" * 65_530}, {"text": "c"}]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    pandas.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
    for name in ("t.json", "t.csv"):
        assert [value for _, value in column_of(tmp_path / name, "text")] == [row["text"] for row in rows]


@pytest.mark.parametrize("end", [b"\xff\xff", b'{"text": 1', b"[}", b",,,,,\n"])
@pytest.mark.parametrize("kind", [".jsonl", ".json", ".csv"])
def test_only_the_rows_asked_for_are_read(kind: str, end: bytes, tmp_path: Path) -> None:
    """What stands behind them may be anything."""
    rows = [{"id": 1, "text": "some words " * 20}] * 2000
    content = {".jsonl": lines(rows), ".json": json.dumps(rows)[:-1].encode() + b",\n"}
    path = tmp_path / f"t{kind}"
    path.write_bytes(content.get(kind) or pandas.DataFrame(rows).to_csv(index=False).encode())
    with path.open("ab") as file:
        file.write(end)
    assert len(list(islice(column_of(path, "text"), 1500))) == 1500
    assert minibatch(text=path, batch_size=4, seq_len=16)["input_ids"].shape == (4, 16)
    with pytest.raises(MinibatchError, match=str(path)):
        list(column_of(path, "text"))


def test_a_row_group_of_parquet_is_not_read_whole(tmp_path: Path) -> None:
    path, text = tmp_path / "t.parquet", ["x" * 1000 + str(i) for i in range(100_000)]
    table = pyarrow.table({"text": text, "other": text})
    pyarrow.parquet.write_table(table, path, row_group_size=10**9, use_dictionary=False, compression="none")
    del text, table
    tracemalloc.start()  # what is read of a file is bytes of Python
    rows = column_of(path, "text")
    assert len(list(islice(rows, 1000))) == 1000
    assert tracemalloc.get_traced_memory()[1] < 2**24  # of 200 MB
    tracemalloc.stop()
    rows.close()  # type: ignore[attr-defined]


def nothing(path: Path) -> None:
    path.write_bytes(b"")


def bytes_(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def parquet(rows: list[dict[str, Any]]) -> Callable[[Path], object]:
    return lambda path: pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


BAD: list[tuple[str, Callable[[Path], object], str, type[LpzError]]] = [
    ("a.jsonl", bytes_(b'{"text": "a"}\n{"text": \n'), "line 2 of", MinibatchError),
    ("b.jsonl", bytes_(b'{"text": "a"}\n\n["text"]\n'), "line 3 of", MinibatchError),
    ("c.jsonl", bytes_(b'{"text": "a"}\n\xff\n'), "line 2 of", MinibatchError),
    ("d.jsonl", bytes_(b'{"body": "a", "title": "b"}\n'), "there are body, title", UsageError),
    ("e.jsonl", bytes_(b'{"text": 3}\n'), "line 1 .* holds int", UsageError),
    ("f.jsonl", bytes_(b'{"text": " "}\n{"text": null}\n'), "no text in its 2 rows", MinibatchError),
    ("g.jsonl", nothing, "no rows", MinibatchError),
    ("h.jsonl", bytes_(b'{"text": "\\ud800"}\n'), "line 1 .* surrogate", MinibatchError),
    ("i.jsonl", bytes_(b"[" * 100_000), "nested too deeply", MinibatchError),
    ("j.jsonl", bytes_(b'"text"\n'), "is no object but str", MinibatchError),
    ("a.json", bytes_(b'[{"text": "a"}, {"text": }]'), "item 2 of", MinibatchError),
    ("b.json", bytes_(b'[{"text": "a"} {"text": "b"}]'), "item 1 of", MinibatchError),
    ("c.json", bytes_(b'{"text": {\n"0": "a"}}'), "orient='records'", MinibatchError),
    ("d.json", bytes_(b"[]"), "no rows", MinibatchError),
    ("e.json", bytes_(b"[" * 100_000), "item 1 of", MinibatchError),
    ("f.json", bytes_(b'[{"text": "a"}, \xff]'), "f.json", MinibatchError),
    ("a.csv", bytes_(b"id;text\n1;a\n"), "there are id;text", UsageError),
    ("b.csv", bytes_(b'id,text\n1,"a\nb"\n2,b,c\n'), "line 4 .* 3 fields", MinibatchError),
    ("c.csv", bytes_(b'id,text\n1,"a\n'), "line 2", MinibatchError),
    ("d.csv", bytes_("id,text\n1,é\n".encode("latin-1")), "UTF-8", MinibatchError),
    ("e.csv", nothing, "no columns", UsageError),
    ("f.csv", bytes_(b"id,text\n1,\n2, \n"), "no text in its 2 rows", MinibatchError),
    ("g.csv", bytes_(b"id,text\n"), "no rows", MinibatchError),
    ("a.parquet", bytes_(b"PAR1 but not really"), "a.parquet' is damaged", MinibatchError),
    ("b.parquet", parquet([{"body": "a"}]), "there are body", UsageError),
    ("c.parquet", parquet([{"text": 3}]), "int64, not text", UsageError),
    ("d.parquet", parquet([{"text": ["a"]}]), "list<.*>, not text", UsageError),
    ("a.arrow", bytes_(b"no arrow"), "a.arrow' is damaged", MinibatchError),
    ("a.jsonl.gz", bytes_(b"no gzip"), "a.jsonl.gz", MinibatchError),
    ("b.jsonl.gz", bytes_(gzip.compress(lines(ROWS))[:-20]), "is damaged", MinibatchError),
    ("a.jsonl.zst", bytes_(b"(\xb5/\xfd"), "unpack it", UsageError),
    ("a.txt.zip", bytes_(b"PK"), "unpack it", UsageError),
    ("a.jsonl.xz", bytes_(lzma.compress(lines(ROWS))[:-20]), "is damaged", MinibatchError),
    ("a.csv.bz2", bytes_(bz2.compress(b"id,text\n1,a\n")[:-5]), "is damaged", MinibatchError),
    ("b.txt.gz", bytes_(gzip.compress(b"a text " * 99)[:-9]), "is damaged", MinibatchError),
    ("c.txt.gz", bytes_(gzip.compress(b"\xff" * 99)), "UTF-8", MinibatchError),
    ("short.jsonl", bytes_(b'{"text": "a"}\n'), "seq_len=", MinibatchError),
]


@pytest.mark.parametrize(("name", "make", "message", "kind"), BAD, ids=[case[0] for case in BAD])
def test_bad_files_are_one_line_with_the_place(
    name: str, make: Callable[[Path], object], message: str, kind: type[LpzError], tmp_path: Path
) -> None:
    make(tmp_path / name)
    with pytest.raises(kind, match=message) as raised:
        minibatch(text=tmp_path / name, batch_size=2, seq_len=16)
    assert "\n" not in str(raised.value)
    assert str(tmp_path / name) in str(raised.value)


def test_a_pipe_and_a_missing_file_are_refused_at_once(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.jsonl")
    for name in ("pipe.jsonl", "none.jsonl", "none.parquet"):
        with pytest.raises(MinibatchError, match=name):
            minibatch(text=tmp_path / name)


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(".parquet", tmp_path / "t.parquet")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MinibatchError, match=r"lpzero-hf\[tables\]"):
        minibatch(text=tmp_path / "t.parquet")


def test_a_packed_text_is_read_as_the_text(tmp_path: Path) -> None:
    text = "to be or not to be, that is the question " * 30
    (tmp_path / "t.txt").write_text(text)
    (tmp_path / "t.txt.gz").write_bytes(gzip.compress(text.encode()))
    plain, packed = (minibatch(text=tmp_path / n, batch_size=2, seq_len=9)["input_ids"] for n in ("t.txt", "t.txt.gz"))
    assert plain.tolist() == packed.tolist()
