"""Native code that panics is one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import PreTrainedModel

from lpzero_hf.errors import ModelError
from lpzero_hf.models.minibatch import embedded_tokenizer
from lpzero_hf.models.panics import reported

Lpz = Callable[..., tuple[int, str, str]]


class PanicException(BaseException):  # the name it has in PyO3
    """As Rust raises it."""


def test_a_panic_is_an_error_and_other_output_is_kept(capfd: pytest.CaptureFixture[str]) -> None:
    def run(printed: bytes, error: BaseException | None = None) -> None:
        with reported("no", "go", ModelError):
            os.write(2, printed)
            if error is not None:
                raise error

    with pytest.raises(ModelError, match="PanicException: at 3; go"):
        run(b"a trace\n", PanicException("at 3"))
    run(b"a note\n")
    with pytest.raises(KeyboardInterrupt):
        run(b"stopped\n", KeyboardInterrupt())
    assert capfd.readouterr().err == "a note\nstopped\n"


@pytest.mark.integration
def test_a_tokenizer_whose_regex_panics_is_one_line(gpt2: PreTrainedModel, tmp_path: Path) -> None:
    gpt2.config.save_pretrained(tmp_path)
    embedded_tokenizer().save_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    document = json.loads(file.read_text(encoding="utf-8"))
    endless = {
        "type": "Split",
        "pattern": {"Regex": "((((a|b|[a-z ])+)+)+)+$!"},
        "behavior": "Isolated",
        "invert": False,
    }
    file.write_text(json.dumps(document | {"pre_tokenizer": endless}), encoding="utf-8")
    command = [sys.executable, "-c", "from lpz_cli.main import main; main()", "score", str(tmp_path), "-p"]
    done = subprocess.run([*command, "snip"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "tokenizer" in done.stderr
    assert subprocess.run([*command, "params"], capture_output=True).returncode == 0
