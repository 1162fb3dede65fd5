"""`lpz push` and `lpz pull` with the real client against a Hub on loopback, and everything that can go wrong there.

The file is long because every fault is one that a push and a pull meet at the same Hub, with the same artifact.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, constants

from lpzero_hf.artifacts.artifact import ARTIFACT_FILE, LARGEST, Artifact, Member, write_artifact
from lpzero_hf.artifacts.card import card
from lpzero_hf.artifacts.hub import pull, push_to_hub, reference
from lpzero_hf.errors import LpzError
from tests.support.hub import running_hub
from tests.support.hub_state import TOKEN, Hub, Repository

Run = Callable[..., tuple[int, str, str]]
REPO = "someone/mine"
BOTH = {ARTIFACT_FILE, "README.md"}


def made(note: str = "") -> Artifact:
    """A small artifact; the note makes it another one."""
    estimate = {"value": 0.8, "low": 0.7, "high": 0.9}
    graded = {"spearman": estimate, "kendall": estimate, "top": 0.5}
    record = {
        "benchmarks": ["tiny-gpt2"], "strategy": "random", "seed": 7, "versions": {"torch": "2.11"}, "note": note,
        "train": {"tiny-gpt2": {"n": 50, **graded}}, "held_out": {"tiny-gpt2": {"n": 78, **graded}},
    }  # fmt: skip
    return Artifact("mine", (Member("sum(sum(product(abs(W), abs(G))))", 1),), {"abs": "1"}, record)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty Hub that this process talks to, logged in, with a cache of its own."""
    with running_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield hub


@pytest.fixture
def run(lpz: Run) -> Run:
    """Run `lpz`; no output may show the token."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code, out, err = lpz(*arguments)
        assert TOKEN not in out + err
        return code, out, err

    return run


@pytest.fixture
def file(tmp_path: Path) -> str:
    """The file of an artifact."""
    write_artifact(tmp_path / "mine.json", made())
    return str(tmp_path / "mine.json")


def rewrite(file: str, note: str) -> None:
    write_artifact(file, made(note))


def fails(run: Run, *arguments: str) -> str:
    """The one line that a failing command prints, which exits with 1."""
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    return err


# What works


def test_an_artifact_comes_back_bit_for_bit(hub: Hub, run: Run, file: str, tmp_path: Path) -> None:
    code, out, err = run("push", file, REPO, "--message", "first", "--json")
    pushed = json.loads(out)
    assert (code, err) == (0, "")
    assert pushed["pinned"] == f"{REPO}@{pushed['commit']}"
    code, out, err = run("pull", REPO, "--out", str(tmp_path / "back.json"), "--json")
    pulled = json.loads(out)
    assert (code, err) == (0, "")
    assert pulled["commit"] == pushed["commit"]
    assert pulled["sha256"] == made().digest
    assert Path(pulled["path"]).read_bytes() == Path(file).read_bytes() == hub.files(REPO)[ARTIFACT_FILE]
    newest, first = hub.repositories[REPO].history()
    assert newest.message == "first"
    assert set(newest.files) - set(first.files) == BOTH


def test_the_card_has_metadata_the_numbers_and_how_to_use_it(hub: Hub, run: Run, file: str) -> None:
    run("push", file, REPO)
    shown = ModelCard(hub.files(REPO)["README.md"].decode())
    assert shown.data.library_name == "lpzero-hf"
    assert shown.data.tags == ["lpzero-hf", "zero-cost-proxy", "neural-architecture-search"]
    for text in (
        "sum(sum(product(abs(W), abs(G))))",
        "+0.800 [+0.700, +0.900]",
        f'load_proxy("{REPO}")',
        made().digest,
    ):
        assert text in shown.text


def test_the_same_content_makes_no_commit(hub: Hub, run: Run, file: str) -> None:
    run("push", file, REPO)
    before = hub.repositories[REPO].history()
    code, out, _ = run("push", file, REPO)
    assert code == 0
    assert f"{REPO}@{before[0].oid}" in out
    assert hub.repositories[REPO].history() == before


def test_new_content_makes_one_commit_of_both_files(hub: Hub, run: Run, file: str) -> None:
    run("push", file, REPO)
    old = hub.repositories[REPO].history()
    rewrite(file, "better")
    run("push", file, REPO)
    newest, *rest = hub.repositories[REPO].history()
    assert rest == old
    assert {path for path in newest.files if newest.files[path] != old[0].files.get(path)} == BOTH


def test_a_hash_pins_what_a_branch_does_not(hub: Hub, run: Run, file: str) -> None:
    first = push_to_hub(made("one"), REPO)
    second = push_to_hub(made("two"), REPO)
    assert pull(first.pinned).artifact == made("one")
    assert pull(f"{REPO}@main").artifact == pull(second.pinned).artifact == made("two")
    hub.asked.clear()
    assert pull(first.pinned).artifact == made("one")
    assert hub.asked == []  # it is in the cache, and can be no other


def test_a_branch_is_made_and_leaves_main_alone(hub: Hub, run: Run, file: str) -> None:
    run("push", file, REPO)
    main = hub.repositories[REPO].branches["main"]
    push_to_hub(made("tried"), REPO, branch="try/1")
    assert hub.repositories[REPO].branches["main"] == main
    assert pull(f"{REPO}@try/1").artifact == made("tried")
    assert pull(REPO).artifact == made()


def test_a_private_repository_needs_the_login(hub: Hub, run: Run, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run("push", file, REPO, "--private")
    assert hub.repositories[REPO].private
    monkeypatch.delenv("HF_TOKEN")
    code, _, err = run("pull", REPO)
    assert code == 2
    assert f"'{REPO}'" in err
    assert pull(REPO, token=TOKEN).artifact == made()
    Path(constants.HF_TOKEN_PATH).write_text(TOKEN)  # as `hf auth login` does
    assert run("pull", REPO)[0] == 0


# What does not


def test_a_public_repository_is_not_taken_for_a_private_one(hub: Hub, run: Run, file: str) -> None:
    hub.repositories[REPO] = Repository("someone")
    assert "public" in fails(run, "push", file, REPO, "--private")
    assert len(hub.repositories[REPO].history()) == 1


@pytest.mark.parametrize(
    "repo", ["mine", "a/b/c", "a b/c", "a-/b", "a/b.git", "a..b/c", "a/b@", "a/b@x y", "a/b@../c", "hub:a/b", ""]
)
def test_impossible_names_are_refused_before_any_request(hub: Hub, run: Run, file: str, repo: str) -> None:
    for arguments in (("push", file, repo), ("pull", repo)):
        code, _, err = run(*arguments)
        assert code == 2
        assert f"'{repo}'" in err
    assert hub.asked == []


@pytest.mark.parametrize("repo", ["a/b@v1.0", "A-b.c/d_e@refs/pr/1", "a/b@0c5a1e3f"])
def test_possible_names_are_understood(repo: str) -> None:
    name, revision = reference(repo)
    assert f"{name}@{revision}" == repo


def test_a_push_is_not_to_a_revision(hub: Hub, run: Run, file: str) -> None:
    code, _, err = run("push", file, f"{REPO}@main")
    assert code == 2
    assert "--branch" in err
    assert run("push", file, REPO, "--branch", "no good")[0] == 2


def test_a_push_needs_a_login(hub: Hub, run: Run, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    assert "`hf auth login`" in fails(run, "push", file, REPO)
    assert hub.asked == []


@pytest.mark.parametrize("command", ["push", "pull"])
def test_a_login_that_is_refused(hub: Hub, run: Run, file: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run("push", file, REPO)
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    err = fails(run, *(("push", file, REPO) if command == "push" else ("pull", REPO)))
    assert "(401)" in err
    assert "hf_expired" not in err


def test_somebody_elses_repository(hub: Hub, run: Run, file: str) -> None:
    assert "(403)" in fails(run, "push", file, "other/theirs")
    hub.repositories["other/theirs"] = Repository("other")
    assert "(403)" in fails(run, "push", file, "other/theirs")
    assert len(hub.repositories["other/theirs"].history()) == 1


def test_no_such_repository_revision_or_artifact(hub: Hub, run: Run) -> None:
    hub.repositories[REPO] = Repository("someone")
    code, _, err = run("pull", "someone/missing")
    assert code == 2
    assert "'someone/missing'" in err
    code, _, err = run("pull", f"{REPO}@v2")
    assert code == 2
    assert "revision" in err
    assert ARTIFACT_FILE in fails(run, "pull", REPO)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (made().text.replace("abs(W)", "abs(A)").encode(), "hash"),
        (made().text.encode()[:-40], "JSON"),
        (b'{"model_type": "gpt2"}', "no artifact"),
        (b" " * LARGEST + made().text.encode(), "larger"),
    ],
)
def test_a_file_that_is_not_what_was_exported(hub: Hub, run: Run, content: bytes, message: str, tmp_path: Path) -> None:
    hub.repositories[REPO] = Repository("someone")
    commit = hub.repositories[REPO].commit({ARTIFACT_FILE: content})
    err = fails(run, "pull", REPO, "--out", str(tmp_path / "back.json"))
    assert message in err
    assert commit[:12] in err or "larger" in err
    assert not (tmp_path / "back.json").exists()
    assert any("resolve" in asked for asked in hub.asked) is (len(content) <= LARGEST)  # too large is not even fetched


def test_what_is_no_artifact_is_not_pushed(hub: Hub, run: Run, file: str) -> None:
    Path(file).write_text(made().text.replace('"seed": 7', '"seed": 8'))
    assert "hash" in fails(run, "push", file, REPO)
    assert hub.asked == []


def test_a_damaged_copy_in_the_cache_is_replaced(hub: Hub, run: Run) -> None:
    pushed = push_to_hub(made(), REPO)
    path = pull(REPO).path
    path.resolve().write_bytes(made().text.replace("abs(W)", "abs(A)").encode())
    assert "hash" in fails(run, "pull", pushed.pinned, "--offline")
    assert pull(pushed.pinned).artifact == made()
    assert path.read_text() == made().text


def test_bytes_changed_on_the_way_are_noticed(hub: Hub, run: Run) -> None:
    push_to_hub(made(), REPO)
    hub.faults["resolve"] = ["", "other"] * 2
    assert f"'{REPO}@" in fails(run, "pull", REPO)
    assert run("pull", REPO)[0] == 0


def test_a_download_that_breaks_off_goes_on(hub: Hub, run: Run) -> None:
    push_to_hub(made(), REPO)
    hub.faults["resolve"] = ["", "half"]
    pulled = pull(REPO)
    assert pulled.path.read_text() == made().text


@pytest.mark.parametrize(
    ("kind", "fault", "message"),
    [
        ("info", "500", "(500)"),
        ("info", "429", "(429)"),
        ("create", "401", "(401)"),
        ("create", "500", "(500)"),
        ("commit", "403", "(403)"),
        ("commit", "500", "push again"),
        ("commit", "418", "refused"),
    ],
)
def test_a_push_that_the_hub_refuses(hub: Hub, run: Run, file: str, kind: str, fault: str, message: str) -> None:
    hub.faults[kind] = [fault]
    assert message in fails(run, "push", file, REPO)
    assert REPO not in hub.repositories or len(hub.repositories[REPO].history()) == 1
    assert run("push", file, REPO)[0] == 0
    assert pull(REPO).artifact == made()


def test_two_pushes_at_once_do_not_mix(hub: Hub) -> None:
    push_to_hub(made("before"), REPO)
    hub.faults["preupload"] = ["stall 0"]
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(push_to_hub, made("mine"), REPO)
        assert hub.stalled.wait(10)
        push_to_hub(made("theirs"), REPO)
        hub.resume.set()
        with pytest.raises(LpzError, match=r"\(412\)"):
            slow.result()
    assert pull(REPO).artifact == made("theirs")


@pytest.mark.parametrize("fault", ["cut 0", "cut 1", "cut 100", "cut 1000", "cut 5000", "deaf", "mute"])
def test_an_interrupted_push_leaves_the_old_or_the_new_state(hub: Hub, run: Run, file: str, fault: str) -> None:
    run("push", file, REPO)
    old = dict(hub.files(REPO))
    rewrite(file, "better")
    hub.faults["commit"] = [fault]
    err = fails(run, "push", file, REPO)
    assert "connection" in err
    assert "push again" in err
    arrived = fault == "mute"
    assert (hub.files(REPO) != old) is arrived
    assert pull(REPO).artifact == made("better" if arrived else "")
    code, out, _ = run("push", file, REPO)
    assert code == 0
    assert ("already" in out) is arrived
    assert pull(REPO).artifact == made("better")
    assert len(hub.repositories[REPO].history()) == 3  # of the Hub, the first push, the second


SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("create", "preupload")]


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["commit", *SLOW])
def test_a_push_that_is_killed_leaves_the_old_or_the_new_state(
    hub: Hub, run: Run, file: str, kind: str, tmp_path: Path
) -> None:
    if kind != "create":
        run("push", file, REPO)
    before = [dict(commit.files) for commit in hub.repositories[REPO].history()] if hub.repositories else []
    rewrite(file, "better")
    hub.faults[kind] = ["stall 100"]
    client = [sys.executable, "-c", "from lpz_cli.main import main; main()", "push", file, REPO]
    pushing = subprocess.Popen(client, env=os.environ | {"HF_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"})
    assert hub.stalled.wait(60)
    pushing.send_signal(signal.SIGKILL)
    assert pushing.wait(10) == -signal.SIGKILL
    hub.resume.set()
    assert hub.settled.wait(10)
    left = dict(hub.files(REPO))
    assert run("push", file, REPO)[0] == 0
    new = dict(hub.files(REPO))
    assert left in (new, *(before[:1] or [{".gitattributes": b""}]))
    assert pull(REPO).artifact == made("better")


# Without the Hub


def test_without_the_hub_the_cache_serves_and_says_so(
    hub: Hub, run: Run, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed = push_to_hub(made(), REPO)
    push_to_hub(made("tried"), REPO, branch="try")
    push_to_hub(made(), "someone/never-pulled")
    assert pull(REPO).unreachable == pull(f"{REPO}@try").unreachable == ""
    hub.faults["info"] = ["503"]
    code, out, err = run("pull", REPO)
    assert (code, out.splitlines()[0]) == (0, pushed.pinned)
    assert "503" in err
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    code, out, err = run("pull", REPO, "--json")
    assert code == 0
    assert "Connect" in json.loads(out)["unreachable"]
    assert "cache" in err
    assert pull(f"{REPO}@try").artifact == made("tried")
    assert pull(pushed.pinned).unreachable == ""  # there was nothing to ask
    assert pull(REPO, offline=True).artifact == made()
    assert "connection" in fails(run, "push", file, REPO)
    for missing in ("someone/never-pulled", f"{REPO}@v2", f"{REPO}@{'0' * 40}"):
        err = fails(run, "pull", missing)
        assert f"'{missing}'" in err
        assert "reached" in err


OFFLINE = """
import sys
from lpz_cli.main import run
for arguments in (["pull", "someone/mine"], ["pull", "someone/other"], ["push", sys.argv[1], "someone/mine"]):
    print(run(arguments), file=sys.stderr)
"""


@pytest.mark.integration
def test_the_variables_of_the_hub_client_are_respected(hub: Hub, file: str, tmp_path: Path) -> None:
    push_to_hub(made(), REPO)
    pull(REPO)
    home = {"HF_HUB_CACHE": str(constants.HF_HUB_CACHE), "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    hub.asked.clear()
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, file], env=os.environ | home, capture_output=True, text=True, check=True
    )
    assert REPO in done.stdout
    warning, pulled, missing, not_pulled, offline, not_pushed = done.stderr.splitlines()
    assert "HF_HUB_OFFLINE" in warning
    assert "'someone/other'" in missing
    assert "HF_HUB_OFFLINE" in offline
    assert (pulled, not_pulled, not_pushed) == ("0", "1", "1")
    assert hub.asked == []
    assert TOKEN not in done.stdout + done.stderr


def test_a_server_that_is_no_hub(hub: Hub, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    push_to_hub(made(), REPO)
    hub.faults["info"] = ["text"]
    assert "no Hub" in fails(run, "pull", REPO)
    monkeypatch.setenv("HF_ENDPOINT", "no-address")
    assert "reached" in fails(run, "pull", REPO)


# The token


@pytest.mark.parametrize("command", ["push", "pull"])
def test_a_server_that_repeats_the_token_does_not_get_it_shown(hub: Hub, command: str) -> None:
    push_to_hub(made(), REPO)
    hub.faults["info"] = ["echo"]
    with pytest.raises(LpzError) as raised:
        push_to_hub(made(), REPO) if command == "push" else pull(REPO)
    assert "refused" in str(raised.value)
    assert TOKEN not in "".join(traceback.format_exception(raised.value))  # as --debug shows it


@pytest.mark.parametrize("bad", [f"{TOKEN}\nX: y", f"{TOKEN} {TOKEN}", f"{TOKEN}é", f"{TOKEN}\0"])
def test_a_token_that_fits_no_header_is_not_quoted(hub: Hub, bad: str) -> None:
    for call in (lambda: push_to_hub(made(), REPO, token=bad), lambda: pull(REPO, token=bad)):
        with pytest.raises(LpzError, match="token") as raised:
            call()
        assert TOKEN not in "".join(traceback.format_exception(raised.value))
    assert hub.asked == []


def test_a_token_may_have_space_around_it(hub: Hub) -> None:
    assert push_to_hub(made(), REPO, token=f" {TOKEN}\n").changed


# The card


def test_the_card_of_a_package_tells_of_the_package() -> None:
    shown = card(made())
    assert "lpz score gpt2-variant --proxy mine" in shown
    assert "hub:" not in shown


def test_the_card_says_when_nothing_was_held_out() -> None:
    record = dict(made().provenance) | {"held_out": {}}
    assert "no held-out" in card(Artifact("mine", made().members, {"abs": "1"}, record))
    assert "no held-out" not in card(made())


def test_the_card_says_which_architectures_its_numbers_are_of() -> None:
    low = {"value": -0.25, "low": -0.5, "high": 0.125}
    weak = {"n": 78, "spearman": low, "kendall": None, "top": 0.1}
    record = dict(made().provenance) | {"baselines": {"tiny-gpt2": {"num_layers": weak}}, "tests": {"other": weak}}
    lines = card(Artifact("mine", made().members, {"abs": "1"}, record)).splitlines()
    good, bad = "+0.800 [+0.700, +0.900]", "-0.250 [-0.500, +0.125]"
    assert [line for line in lines if line.startswith(("| tiny-gpt2 |", "| other |"))] == [
        f"| tiny-gpt2 | this proxy | searched on | 50 | {good} | {good} |",
        f"| tiny-gpt2 | this proxy | held out | 78 | {good} | {good} |",
        f"| tiny-gpt2 | num\\_layers | held out | 78 | {bad} | — |",
        f"| other | this proxy | further test | 78 | {bad} | — |",
    ]


def test_the_card_of_a_proxy_that_is_better_lower_has_a_minus() -> None:
    for orientation, line in ((1, "sum(sum(W))"), (-1, "- sum(sum(W))")):
        shown = card(Artifact("mine", (Member("sum(sum(W))", orientation),), {}, made().provenance))
        assert f"```\n{line}\n```" in shown
        assert ("leading minus" in shown) == (orientation < 0)


def test_text_in_an_artifact_is_no_markup_in_the_card() -> None:
    assert r"\<b\>a\|b\</b\>" in card(made("<b>a|b</b>"))
