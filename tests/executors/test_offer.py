"""Executors by name: those of this library, those of plugins, and what they are started with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from lpzero_hf import ExecutorOffer, LocalExecutor, ProcessExecutor, RayExecutor, Resources, hookimpl
from lpzero_hf.errors import UsageError
from lpzero_hf.executors.offer import installed_executors, start_executor
from lpzero_hf.executors.process import cores
from lpzero_hf.plugins import PluginRegistry, load_plugins

ASKED: list[Resources] = []


class Noted(LocalExecutor):
    """Works in this process, and notes how many tasks it was given."""

    tasks = 0

    def map(self, work: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        Noted.tasks += len(tasks)
        return super().map(work, tasks)


def start(wanted: Resources) -> Noted:
    ASKED.append(wanted)
    return Noted(wanted.threads)


@hookimpl
def lpz_executors() -> list[ExecutorOffer]:
    """What this module offers as a plugin."""
    return [ExecutorOffer("noted", "notes what it is given", start)]


def test_the_executors_of_this_library_are_offered_through_the_hook() -> None:
    offers = installed_executors(load_plugins())
    assert list(offers)[:3] == ["local", "process", "ray"]
    assert {claim.plugin for claim in list(offers.values())[:3]} == {"builtin-executors"}


@pytest.mark.parametrize(
    ("name", "resources", "kind", "workers"),
    [
        ("local", Resources(threads=3), LocalExecutor, None),
        ("process", Resources(workers=1, threads=2), ProcessExecutor, 1),
        ("process", Resources(), ProcessExecutor, cores()),
        ("process", Resources(device="cuda"), ProcessExecutor, 1),
        ("ray", Resources(workers=1, address="host:1"), RayExecutor, 1),
    ],
)
def test_a_name_starts_an_executor(name: str, resources: Resources, kind: type, workers: int | None) -> None:
    executor = start_executor(name, resources)
    assert type(executor) is kind
    assert executor.threads == resources.threads
    assert getattr(executor, "workers", None) == workers


@pytest.mark.parametrize(
    ("name", "resources", "word"),
    [
        ("proces", Resources(), "process"),
        ("local", Resources(workers=2), "executor=process"),
        ("local", Resources(address="host:1"), "address="),
        ("process", Resources(address="host:1"), "address="),
        ("process", Resources(threads=0), "0 threads"),
        ("ray", Resources(device="cuda:1"), "cuda:1"),
    ],
)
def test_what_cannot_be_started_is_wrong_usage(name: str, resources: Resources, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        start_executor(name, resources)


def test_a_plugin_offers_an_executor_that_commands_work_with(
    lpz: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    points = [EntryPoint("noted", __name__, "lpzero_hf")]
    points += [EntryPoint(name, value, "lpzero_hf") for name, value in (
        ("proxies", "lpz_proxies"), ("zoo", "lpz_zoo"), ("executors", "lpzero_hf.executors.builtin"),
    )]  # fmt: skip
    registry = PluginRegistry(found=points)
    assert "noted" in installed_executors(registry)
    monkeypatch.setattr("lpz_cli.rank.load_plugins", lambda disabled: registry)
    monkeypatch.setenv("LPZ_CACHE", str(tmp_path))
    code, _, err = lpz("rank", "tiny-gpt2", "-p", "num_heads", "--n", "4", "--executor", "noted", "--threads", "2")
    assert code == 0, err
    assert [Resources(None, 2, "cpu", None)] == ASKED
    assert Noted.tasks == 4
    code, _, err = lpz("rank", "tiny-gpt2", "-p", "num_heads", "--n", "4", "--executor", "note")
    assert code == 2
    assert "noted" in err


def test_the_default_needs_no_plugin(lpz: Callable[..., tuple[int, str, str]], tmp_path: Any) -> None:
    wanted = ("rank", "tiny-gpt2", "-p", "num_heads", "--n", "3", "--no-plugin", "builtin-executors")
    assert lpz(*wanted, "--workers", "1")[0] == 0
    assert lpz(*wanted, "--executor", "local")[0] == 2


def test_without_the_plugin_of_the_built_in_executors_a_name_is_unknown() -> None:
    with pytest.raises(UsageError, match="local"):
        start_executor("local", Resources(), PluginRegistry(found=[]))
