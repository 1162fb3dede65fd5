"""Installed plugins that misbehave, against whole `lpz` commands: results stay clean, and the command goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration
LPZ = [sys.executable, "-c", "from lpz_cli.entry import main; main()"]
SMALL = ("--batch-size", "2", "--seq-len", "16", "--device", "cpu")
Install = Callable[..., dict[str, str]]


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """Install a plugin `odd` of the given source beside the others; returns the environment for commands."""

    def make(source: str) -> dict[str, str]:
        site = tmp_path / "site"
        info = site / "odd.dist-info"
        info.mkdir(parents=True)
        (site / "odd.py").write_text(source, encoding="utf-8")
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-dist\nVersion: 1\n", encoding="utf-8")
        (info / "entry_points.txt").write_text("[lpzero_hf]\nodd = odd\n", encoding="utf-8")
        return os.environ | {"PYTHONPATH": os.pathsep.join([str(site), *sys.path])}

    return make


def lpz(*arguments: str, env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*LPZ, *arguments], env=env, cwd=cwd, capture_output=True, text=True, check=False)


MARK = "open({path!r}, 'a').write('imported ')\n"
COMMANDS = {
    "score": ("score", "gpt2-variant", "-p", "params", *SMALL),
    "rank": ("rank", "tiny-gpt2", "-p", "params", "--n", "3", "--workers", "2", *SMALL),
    "nas": ("nas", "tiny-gpt2", "-p", "params", "--max-params", "900000", "--trials", "2", "--out", "nas", *SMALL),
    "new": ("plugin", "new", "my-own"),
    "plugins": ("plugins",),
    "unknown": ("no-such-command",),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_plugin_that_is_turned_off_is_not_imported(command: str, install: Install, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    env = install(MARK.format(path=str(mark)))
    done = lpz(*COMMANDS[command], "--no-plugin", "odd", env=env, cwd=tmp_path)
    assert done.returncode == (2 if command == "unknown" else 0), done.stderr
    assert not mark.exists()
    lpz("plugins", env=env, cwd=tmp_path)
    assert mark.exists()


TALK = """
import atexit, os, subprocess, sys, threading, time
def talk():
    print("HELLO")
    sys.__stdout__.write("HELLO")
    os.write(1, b"HELLO")
    subprocess.run(["echo", "HELLO"])
talk()
atexit.register(talk)
threading.Thread(target=lambda: [print("HELLO") or time.sleep(0.001) for _ in iter(int, 1)], daemon=True).start()
subprocess.Popen("for i in 1 2 3 4 5 6 7 8; do echo HELLO; sleep 0.5; done", shell=True)
from lpzero_hf import hookimpl
@hookimpl
def lpz_proxies():
    talk()
    yield chatty
def chatty(model, batch):
    talk()
    return 1.0
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_json_is_the_only_thing_on_standard_output(workers: str, install: Install, tmp_path: Path) -> None:
    command = ("rank", "tiny-gpt2", "-p", "chatty", "--n", "3", "--workers", workers, "--json", *SMALL)
    done = lpz(*command, env=install(TALK), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["ranking"]) == 3
    assert "HELLO" in done.stderr


def test_a_command_of_a_plugin_prints_as_it_likes(install: Install, tmp_path: Path) -> None:
    source = (
        "import subprocess\nprint('HELLO')\nfrom lpzero_hf import hookimpl\n@hookimpl\ndef lpz_commands(app):\n"
        "    @app.command('greet')\n    def greet(json: bool = False):\n        print('one', flush=True)\n"
        "        subprocess.run(['echo', 'two'])\n"
    )
    done = lpz("greet", env=install(source), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "one\ntwo\n")


@pytest.mark.parametrize(
    "source",
    [
        "raise GeneratorExit('x')",
        "import os; os._exit(0)",
        "from lpzero_hf import hookimpl\n@hookimpl\ndef lpz_commands(app): raise SystemExit(0)",
        "from lpzero_hf import hookimpl\n@hookimpl\ndef lpz_models(): raise KeyboardInterrupt",
        "from lpzero_hf import hookimpl\n@hookimpl\ndef lpz_spaces(): raise SystemExit(0)",
        "from lpzero_hf import hookimpl\n@hookimpl\ndef lpz_benchmarks(): raise BaseException('b')",
        "from lpzero_hf import hookimpl\n@hookimpl\ndef lpz_executors(): raise BaseException('b')",
    ],
)
def test_a_plugin_that_stops_the_command_is_left_out_in_one_line(source: str, install: Install, tmp_path: Path) -> None:
    env = install(source)
    done = lpz("plugins", "--json", env=env, cwd=tmp_path)
    rows = {row["name"]: row for row in json.loads(done.stdout)["plugins"]}
    assert done.returncode == 0
    if "lpz_commands" in source:
        done = lpz("no-such-command", env=env, cwd=tmp_path)
        assert done.returncode == 2
    else:
        assert rows["odd"]["status"] == "failed"
    assert "Traceback" not in done.stderr
    (line,) = (line for line in done.stderr.splitlines() if "warning:" in line)
    assert "'odd' of odd-dist" in line


def test_ctrl_c_ends_a_command_whose_plugin_hangs(install: Install, tmp_path: Path) -> None:
    env = install("import time\ntime.sleep(600)\n")
    process = subprocess.Popen([*LPZ, "proxies"], env=env, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert "'odd'" in line
    assert "LPZ_NO_PLUGINS=odd" in line
    assert process.stderr.read() == "interrupted\n"
    assert process.wait() == 130


def test_a_second_ctrl_c_ends_a_command_whose_plugin_ignores_the_first(install: Install, tmp_path: Path) -> None:
    env = install("import time\nwhile True:\n    try:\n        time.sleep(600)\n    except BaseException: pass\n")
    process = subprocess.Popen([*LPZ, "proxies"], env=env, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "'odd'" in process.stderr.readline()
    for _ in range(2):
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
    assert process.stderr.read() == "interrupted\n"
    assert process.wait() == 130
