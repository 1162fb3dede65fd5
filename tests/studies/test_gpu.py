"""The command that measures a GPU at least runs on the CPU; what a GPU gives is tested in tests/gpu."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from studies.cost import gpu


@pytest.mark.integration
def test_the_benchmark_of_gpus_runs_on_a_cpu_and_agrees_with_itself(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    small = ["tiny-gpt2", "--unary", "1", "--limit", "4", "--compare", "4", "--size", "none"]
    assert gpu.main([*small, "--device", "cpu", "--json", str(file)]) == 0
    made = json.loads(file.read_text())
    assert made["search"]["ranks"]["lowest"] == 1.0
    assert made["search"]["evaluated"] > 50_000
    assert made["gemm"]["share"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_device_is_one_line_that_names_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main([]) == 2
    assert capsys.readouterr().err == "error: no CUDA device here; `--device cpu` tries the same, slowly\n"
