"""Tables in every width: nothing is cut, of any table that a command prints."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lpz_cli import output
from lpz_cli.output import print_table
from lpz_cli.tables import short, wrapped
from rich.cells import cell_len

from tests.support.pages import ROOT
from tests.support.searches import LOSSES, NAMES, OPTIONS, few_resamples, write
from tests.support.trained import write_benchmark

Lpz = Callable[..., tuple[int, str, str]]
Tables = dict[str, list[tuple[object, ...]]]
FRAME = set("┏┳┓┃┡╇┩│└┴┘━─·— ")
NUMBER = re.compile(r"(?<!\w)\d[\d,.]*(?:e[-+]?\d+)?[MBTQ]?(?!\w)")  # no part of a name or digest


def printed(capsys: pytest.CaptureFixture[str], columns: int | None, *table: object) -> str:
    """What `print_table` prints where COLUMNS is given, or where it is piped without."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns)) if columns else patch.delenv("COLUMNS", raising=False)
        print_table(*table)  # type: ignore[arg-type]  # those of a caller
    return capsys.readouterr().out


def letters(text: str) -> Counter[str]:
    return Counter(letter for letter in text if letter not in FRAME and not letter.isspace())


def numbers(text: str) -> list[str]:
    return [short(found.rstrip(".,")) for found in NUMBER.findall(text)]


def assert_whole(shown: str, width: int, *cells: str) -> None:
    """Every number of the cells is in `shown`, whole or shortened, every letter too, and no line is wider."""
    assert max(map(cell_len, shown.splitlines())) <= width, shown
    wanted = [number for cell in cells for number in numbers(cell)]
    missing = Counter(wanted) - Counter(numbers(shown))
    assert not missing, f"{missing} in\n{shown}"
    lost = letters("".join(re.sub(r"\d[\d,.]*", "", cell) for cell in cells)) - letters(shown)
    assert not lost, f"{lost} in\n{shown}"


def named(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The names of columns that hold anything: a paragraph has no empty cells."""
    return [name for i, name in enumerate(header) if any(row[i] for row in rows)]


NUMBERS = st.one_of(
    st.integers(-(10**13), 10**13).map(lambda n: f"{n:,}"),
    st.floats(-1e6, 1e6).map(lambda x: f"{x:.6g}"),
    st.tuples(*[st.floats(-1, 1)] * 3).map(lambda t: "{:+.3f} [{:+.2f}, {:+.2f}]".format(*t)),
    st.just("—"),
)
WORDS = st.text(st.sampled_from("abcxyzÄé語_-/.()[]="), max_size=30)
TEXTS = st.lists(WORDS, max_size=6).map(" ".join)


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, list[str], list[list[str]], list[int]]:
    columns = draw(st.integers(1, 9))
    right = draw(st.sets(st.integers(0, columns - 1)))
    cell = [NUMBERS if i in right else TEXTS for i in range(columns)]
    rows = draw(st.lists(st.tuples(*cell).map(list), max_size=4))
    return draw(TEXTS), [draw(WORDS) for _ in range(columns)], rows, sorted(right)


@settings(max_examples=60, deadline=None)
@given(tables(), st.integers(30, 200))
def test_any_table_in_any_width_is_whole(table: tuple[str, list[str], list[list[str]], list[int]], width: int) -> None:
    title, header, rows, right = table
    with pytest.MonkeyPatch.context() as patch:
        written: list[str] = []
        patch.setenv("COLUMNS", str(width))

        class Stream:
            encoding = "utf-8"

            def write(self, text: str) -> None:
                written.append(text)

            def flush(self) -> None: ...

            def isatty(self) -> bool:
                return False

        patch.setattr(sys, "stdout", Stream())
        print_table(title, header, rows, right)
    cells = [cell for row in rows for cell in row]
    assert_whole("".join(written), width, title, *named(header, rows), *cells)


@pytest.mark.parametrize("width", [60, 80, 120, None])
def test_six_models_and_their_counts(width: int | None, capsys: pytest.CaptureFixture[str]) -> None:
    models = [f"meta-llama/Llama-3.2-{i}B" for i in range(6 if width else 12)]
    counts = [f"{1_235_814_400 + i:,}" for i in range(len(models))]
    rows = [["params", *counts, "4 / 1"], ["snip", *(f"{i}54.9594" for i in range(len(models))), "4 / 1"]]
    header = ["proxy", *models, "benchmarks"]
    shown = printed(capsys, width, "six", header, rows, range(1, len(models) + 2))
    assert_whole(shown, width or 240, *header, *(cell for row in rows for cell in row))
    assert all(count in shown for count in counts)  # where columns go on below, no digit has to go


@pytest.mark.parametrize(
    ("number", "shorter"),
    [
        ("1,235,814,400", "1.24B"), ("-14,763,950", "-14.8M"), ("999,999", "999,999"), ("999,999,999", "1.00B"),
        ("9,995,000", "10.0M"), ("99,949,000", "99.9M"), ("1,000,000,000,000", "1.00T"), ("1,234,567 x", "1,234,567 x"),
    ],
)  # fmt: skip
def test_millions_are_shortened_to_three_digits(number: str, shorter: str) -> None:
    assert short(number) == shorter


def test_a_short_form_is_taken_where_it_makes_one_table_of_two(capsys: pytest.CaptureFixture[str]) -> None:
    table = ("t", ["proxy", "a", "b", "c"], [["params", *["1,235,814,400"] * 3]], [1, 2, 3])
    assert "1,235,814,400" in printed(capsys, 60, *table)
    assert (shown := printed(capsys, 40, *table)).count("1.24B") == 3
    assert shown.count("proxy") == 1


def test_text_is_parted_between_words_and_a_number_last() -> None:
    assert wrapped("rho +0.608 [+0.49, +0.69]", 15) == ["rho +0.608", "[+0.49, +0.69]"]
    assert wrapped("meta-llama/Llama-3.2-1B", 14) == ["meta-llama/", "Llama-3.2-1B"]
    assert wrapped("sum(sum(product(abs(W), 12.5)))", 12) == ["sum(sum(", "product(abs(", "W), 12.5)))"]


def test_a_table_of_text_that_is_too_wide_is_a_paragraph_for_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    row = ["snip", "higher", "forward + backward", "the sum of |W * G| over all layers", "Lee et al. 2019"]
    shown = printed(capsys, 60, "", ["proxy", "better", "passes", "formula", "citation"], [row])
    assert shown.splitlines()[1:] == [
        "proxy snip",
        "  better: higher · passes: forward + backward",
        "  formula: the sum of |W * G| over all layers",
        "  citation: Lee et al. 2019",
    ]


# All tables of all commands --------------------------------------------------------------------------------

FAST = ("--batch-size", "2", "--seq-len", "16", "--device", "cpu")
BRIEF = "--strategy random --iterations 4 --population 4 --batch-size 2 --seq-len 8"
ONE = (*FAST, "--workers", "1")
MODELS = ("gpt2-variant", "bert-mini", "llama-mini")
COMMANDS = [
    ("score", *MODELS, "-p", "params", "-p", "decoder_params", "-p", "num_heads", *FAST),
    ("score", *MODELS, "--plan", *FAST),
    ("compare", *MODELS, "-p", "num_heads", "-p", "num_layers", "--seeds", "1", *FAST),
    ("cost", *MODELS, "-c", "params", "-c", "kv_cache"),
    ("rank", "tiny-gpt2", "-p", "num_heads", "-p", "params", "--n", "3", *ONE),
    ("nas", "tiny-gpt2", "-p", "params", "--max-params", "900000", "--trials", "2", "--out", "nas", *FAST),
    ("nas", "tiny-gpt2", "-o", "params", "-o", "proxy:num_heads", "--max", "params=2M", "--trials", "2", "--out", "n2",
     *FAST),
    ("bench", "list"),
    ("bench", "show", "tiny-gpt2"),
    ("bench", "eval", "one", "-p", "num_heads", "--more", "--within", "2", *ONE),
    ("bench", "consensus", "one", "-p", "params", "-p", "decoder_params", "--within", "2", *ONE),
    ("bench", "transfer", "one", "two", *OPTIONS, "-p", "params", "--within", "2", "--search", BRIEF, "--more"),
    ("search", "one", "--train", "4", "--splits", "2", "--minibatch", "2x8", "--minibatch", "3x8", "--workers", "1",
     *BRIEF.split()[:6], "--within", "2"),
    ("search", "one", "--train", "0", "--workers", "1", *BRIEF.split()[:6], "--within", "2"),
    ("zoo",), ("zoo", "show", "tiny-gpt2"), ("proxies",), ("proxies", "snip"), ("plugins",),
]  # fmt: skip


@pytest.fixture
def all_tables(lpz: Lpz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tables:
    """What each place in the code of commands gives to `print_table`."""
    monkeypatch.chdir(tmp_path)
    write(Path("one"), LOSSES[:7])
    others = [name.replace("e32", "e64") for name in NAMES[:6]]
    write_benchmark(Path("two"), dict(zip([*others, NAMES[0]], LOSSES[5:], strict=True)))
    importlib.import_module("lpz_cli.main")
    found: Tables = {}

    def noted(title: str, header: list[str], rows: list[list[str]], numbers: object = ()) -> None:
        caller = sys._getframe(1)
        place = f"{Path(caller.f_code.co_filename).name}:{caller.f_code.co_name} {caller.f_lineno}"
        found.setdefault(place, []).append((title, header, [list(row) for row in rows], list(numbers)))  # type: ignore[call-overload]  # a range or a list

    for name, module in list(sys.modules.items()):
        if name.startswith("lpz_cli") and module is not output and hasattr(module, "print_table"):
            monkeypatch.setattr(module, "print_table", noted)
    with few_resamples():
        for command in COMMANDS:
            code, _, err = lpz(*command)
            assert code == 0, (command, err)
    return found


@pytest.mark.integration
def test_every_table_of_every_command_is_whole_in_every_width(
    all_tables: Tables, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = [file for file in (ROOT / "cli" / "lpz_cli").rglob("*.py") if file.name != "output.py"]
    calls = sum(len(re.findall(r"\bprint_table\(", file.read_text(encoding="utf-8"))) for file in sources)
    assert len(all_tables) == calls, f"a command with each of them is missing in COMMANDS: {sorted(all_tables)}"
    for given_tables in all_tables.values():
        for title, header, rows, right in given_tables:
            cells = [cell for row in rows for cell in row]  # type: ignore[attr-defined]
            for width in (60, 80, 120, None):
                shown = printed(capsys, width, title, header, rows, right)
                assert_whole(shown, width or 240, str(title), *named(header, rows), *cells)  # type: ignore[arg-type]


@pytest.mark.integration
def test_a_terminal_decides_the_width_where_nothing_else_does() -> None:
    pty = pytest.importorskip("pty", reason="needs a POSIX terminal")
    import fcntl
    import struct
    import termios

    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover - another process
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
        os.environ.pop("COLUMNS", None)
        code = "from lpz_cli.entry import main; import sys; sys.argv = ['lpz', 'bench', 'list']; main()"
        os.execv(sys.executable, [sys.executable, "-c", code])
    shown = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # it has ended
            break
        if not part:
            break
        shown += part
    os.waitpid(pid, 0)
    text = re.sub(r"\x1b\[[\d;]*m", "", shown.decode()).replace("\r", "")
    assert "tiny-gpt2" in text
    assert max(map(cell_len, text.splitlines())) <= 60
