"""The library speaks of arguments, and `lpz` of options: one and the same message."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from lpz_cli.main import app
from lpz_cli.wording import OPTIONS, WHOLE, all_as_options, as_options

ROOT = Path(__file__).parent.parent
LIBRARY = [
    ROOT / "lpzero_hf",
    ROOT / "zoo",
    *(ROOT / "plugins" / f"lpz_{name}" for name in ("costs", "nas", "proxies")),
]
FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")
COMMAND = re.compile(r"`lpz [^`]*`?")  # to be run in a shell, as a whole
SHELL = {
    "card.py",
    "package.py",
    "proxy_template.py",
    "artifact_template.py",
    "space_template.py",
}  # write pages for it


def strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The texts of a module that are no docstrings; an f-string as one, with * for what is filled in."""
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            inside.add(id(node.value))
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values]
            yield node.lineno, "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.lineno, node.value


FILES = [f for folder in LIBRARY for f in sorted(folder.rglob("*.py")) if f.name not in SHELL]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_message_of_the_library_names_an_option_of_the_command_line(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = [f"line {line}: {text}" for line, text in strings(tree) if FLAG.search(COMMAND.sub("", text))]
    assert not found, found


def options() -> set[str]:
    def of(command: object) -> Iterator[str]:
        for parameter in command.params:  # type: ignore[attr-defined]
            yield from parameter.opts
            yield from parameter.secondary_opts
        for inner in vars(command).get("commands", {}).values():
            yield from of(inner)

    return set(of(typer.main.get_command(app)))


def test_every_argument_that_a_message_names_is_an_option_of_a_command() -> None:
    known, named = options(), set[str]()
    for file in FILES:
        for _, text in strings(ast.parse(file.read_text(encoding="utf-8"))):
            named |= {one.partition("=")[0] for one in re.findall(r"`([a-z_]+=[^`\n]*)`", text)}
    assert len(named) > 20
    assert named - OPTIONS.keys() - {one.partition("=")[0] for one in WHOLE} == {"baseline", "batch_order_invariant"}
    assert {*OPTIONS.values(), *WHOLE.values()} - known == set()


@pytest.mark.parametrize(
    ("message", "shown"),
    [("use `seq_len=64` or less", "use --seq-len 64 or less"),
     ("leave out `pretrained=True`", "leave out --pretrained"),
     ("`dtype=torch.bfloat16` needs less", "--dtype bfloat16 needs less"), ("give `metric=`", "give --metric"),
     ("say `larger_is_better=False`", "say --lower-is-better"), ("`lpz zoo` lists them", "`lpz zoo` lists them"),
     ("'a=b' is a file", "'a=b' is a file")],
)  # fmt: skip
def test_a_message_has_options_in_place_of_arguments(message: str, shown: str) -> None:
    assert as_options(message) == shown
    assert all_as_options({"reason": [message], "n": 1}) == {"reason": [shown], "n": 1}


def test_a_command_says_its_option_and_python_its_argument(lpz: "object", tmp_path: Path) -> None:
    from lpzero_hf import LpzError, load_model

    with pytest.raises(LpzError, match="pretrained=True"):
        load_model("gpt2-variant", pretrained=True)
    code, _, err = lpz("score", "gpt2-variant", "--pretrained")  # type: ignore[operator]
    assert code
    assert "--pretrained" in err
    assert "pretrained=True" not in err
