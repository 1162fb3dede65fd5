"""Models and minibatches that many tests share."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel
from transformers.utils import logging

logging.set_verbosity_error()
torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a background job of a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)
collect_ignore_glob = ["data/*"]  # what older versions have written, tests of packages among it


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave slow tests out, unless `-m` says something of them."""
    if "slow" not in config.getoption("markexpr"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LPZ_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are as wide as they like, wherever the tests run."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def gpt2() -> PreTrainedModel:
    """A GPT-2 of two blocks."""
    torch.manual_seed(0)
    config = GPT2Config(n_layer=2, n_embd=32, n_head=4, vocab_size=4200, n_positions=64, bos_token_id=2, eos_token_id=2)
    return GPT2LMHeadModel(config).eval()


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Four sequences of twelve random tokens."""
    ids = torch.randint(3, 4096, (4, 12), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.fixture
def lpz(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Run `lpz` in this process: exit code, stdout and stderr."""
    monkeypatch.setenv("LPZ_DEBUG", "")  # and put back afterwards, whatever --debug leaves

    def run(*arguments: str) -> tuple[int, str, str]:
        from lpz_cli.main import run as run_lpz

        code = run_lpz(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return run
