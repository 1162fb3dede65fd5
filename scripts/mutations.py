"""Checks that the tests notice one-line faults: makes each fault of a list in a copy of the tree, and runs its tests.

    python scripts/mutations.py                         all of scripts/mutations.toml
    python scripts/mutations.py --only ID ...           some of them
    python scripts/mutations.py --check                 only whether the list fits the code
    python scripts/mutations.py --unmutated             whether the tests pass where nothing is mutated

A mutation that no test notices has survived: a test is missing. Exit code 1 if one has survived, or the list does not
fit; 2 for wrong usage. A mutation that its tests cannot reach (an error of collection, no test found) is an error too.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "scripts" / "mutations.toml"
PACKAGES = (".", "plugins", "plugins/lpz-attention-entropy", "zoo", "cli")
LEFT_OUT = (".git", ".venv", ".ruff_cache", ".mypy_cache", ".pytest_cache", ".hypothesis", "site", "dist", "runs")
OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--timeout", "600")
IMPORTED = (  # once, before the processes are forked: what takes long, and nothing of the product
    "pytest", "hypothesis", "jsonschema", "huggingface_hub", "safetensors.torch", "scipy.stats", "torch", "typer",
    "transformers.models.auto.modeling_auto", "transformers.models.gpt2.modeling_gpt2", "transformers.utils.hub",
    "transformers.models.bert.modeling_bert", "transformers.models.t5.modeling_t5", "transformers.conversion_mapping",
    "transformers.models.llama.modeling_llama", "transformers.tokenization_utils_tokenizers", "rich.table",
)  # fmt: skip
KILLED, SURVIVED = 1, 0  # what pytest exits with if a test fails, and if all pass
WORDS = {KILLED: "killed", SURVIVED: "passed"}


@dataclass(frozen=True)
class Mutation:
    """A fault in one place of the product.

    Args:
        id: a short name.
        file: the path in the tree.
        old: text that occurs in it exactly once.
        new: what replaces it.
        tests: arguments of pytest: the tests that should fail.
    """

    id: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def applied(self, text: str) -> str:
        """The text of the file with the fault."""
        return text.replace(self.old, self.new) if self.old else text


def read_list(path: Path = LIST) -> list[Mutation]:
    """The mutations of a TOML file, in its order."""
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["mutation"]
    return [Mutation(**{**entry, "tests": tuple(entry["tests"])}) for entry in entries]


def problems(mutations: Sequence[Mutation], root: Path = ROOT) -> Iterator[str]:
    """One line for everything in which a list does not fit the tree."""
    for name, count in Counter(mutation.id for mutation in mutations).items():
        if count > 1:
            yield f"{name}: {count} mutations have this id"
    for mutation in mutations:
        text = _text(root / mutation.file)
        if (found := text.count(mutation.old)) != 1:
            yield f"{mutation.id}: the old text occurs {found} times in {mutation.file}"
        elif mutation.applied(text) == text:
            yield f"{mutation.id}: nothing changes"
        for argument in mutation.tests:
            file, _, node = argument.partition("::")
            name = re.sub(r"\[.*", "", node).rpartition("::")[2]
            missing = f"def {name}" not in _text(root / file) if name else not (root / file).exists()
            if argument.startswith("tests/") and missing:
                yield f"{mutation.id}: there is no test {argument}"
        if not any(argument.startswith("tests/") for argument in mutation.tests):
            yield f"{mutation.id}: it names no test"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def run(mutations: Sequence[Mutation], workers: int, report: Callable[[Mutation, int, float, str], None]) -> None:
    """Run the tests of every mutation, each in a process of its own that starts with torch already imported.

    Args:
        mutations: to try.
        workers: processes at a time, each with a copy of the tree.
        report: called with a mutation, the exit code of pytest, the seconds, and the end of its output.
    """
    for name in IMPORTED:
        importlib.import_module(name)
    waiting = list(mutations)
    running: dict[int, tuple[Mutation, Path, float]] = {}
    with tempfile.TemporaryDirectory(prefix="mutations-") as made:
        free = [Path(made) / f"tree-{number}" for number in range(max(1, workers))]
        for copy in free:
            shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
        try:
            while waiting or running:
                if waiting and free:
                    mutation, copy = waiting.pop(0), free.pop()
                    file = copy / mutation.file
                    kept = Path(shutil.copy2(file, copy / "kept"))
                    file.write_text(mutation.applied(_text(kept)), encoding="utf-8")
                    running[_started(mutation, copy)] = mutation, copy, time.perf_counter()
                    continue
                pid, status = os.wait()
                mutation, copy, start = running.pop(pid)
                (copy / "kept").replace(copy / mutation.file)
                free.append(copy)
                code = os.waitstatus_to_exitcode(status)
                report(mutation, code, time.perf_counter() - start, _text(copy / "output.txt"))
        finally:
            for pid in running:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _started(mutation: Mutation, copy: Path) -> int:
    """The process that runs the tests of a mutation in a copy of the tree."""
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    code: Any = 70
    try:
        os.chdir(copy)
        with (copy / "output.txt").open("wb") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        paths = [str((copy / package).resolve()) for package in PACKAGES]
        sys.path[:] = [*paths, *(path for path in sys.path if not Path(path or ".").resolve().is_relative_to(ROOT))]
        sys.dont_write_bytecode = True  # the copies are changed faster than the clock of files can tell
        os.environ |= {"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}

        import pytest

        code = int(pytest.main([*OPTIONS, *mutation.tests]))
    finally:
        sys.stdout.flush()
        os._exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="ID", help="these mutations")
    parser.add_argument("--check", action="store_true", help="only check that the list fits the code")
    parser.add_argument("--unmutated", action="store_true", help="run the tests of the list on the code as it is")
    parser.add_argument("--workers", type=int, default=1, help="mutations at a time (default 1)")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the copies are removed
    mutations = read_list()
    if unknown := sorted(set(given.only or ()) - {mutation.id for mutation in mutations}):
        parser.error(f"there is no mutation '{unknown[0]}' in {LIST.name}")
    if told := list(problems(mutations)):
        print(*told, sep="\n")
        return 1
    if given.check:
        print(f"{len(mutations)} mutations fit the code")
        return 0
    chosen = [mutation for mutation in mutations if not given.only or mutation.id in given.only]
    if given.unmutated:
        chosen = [Mutation(" ".join(tests), chosen[0].file, "", "", tests) for tests in {m.tests: 0 for m in chosen}]
    wanted = SURVIVED if given.unmutated else KILLED
    unnoticed: list[str] = []

    def report(mutation: Mutation, code: int, seconds: float, output: str) -> None:
        word = {KILLED: "FAILED", SURVIVED: "SURVIVED", wanted: WORDS[wanted]}.get(code, f"ERROR {code}")
        print(f"{word:9} {mutation.id:45} {seconds:6.1f} s", flush=True)
        if code != wanted:
            unnoticed.append(mutation.id)
            print(*(f"    {line}" for line in output.splitlines()[-3:]), sep="\n", flush=True)

    run(chosen, given.workers, report)
    what = "test runs passed without mutations" if given.unmutated else "mutations were noticed"
    print(f"{len(chosen) - len(unnoticed)} of {len(chosen)} {what}")
    for name in sorted(unnoticed):
        print(f"not: {name}")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
