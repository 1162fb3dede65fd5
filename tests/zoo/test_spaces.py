"""The spaces of the zoo that are files."""

import subprocess
import sys
from pathlib import Path

import pytest
from lpz_zoo.flexibert import FlexiBertConfig
from lpz_zoo.spaces import space_files

from lpzero_hf import ShippedSpace, load_space


@pytest.mark.parametrize("space", space_files(), ids=lambda space: space.name)
def test_the_size_that_a_listing_shows_is_that_of_the_file(space: ShippedSpace) -> None:
    assert space.count() == load_space(space.path).count()


@pytest.mark.integration
def test_a_configuration_of_a_family_of_the_zoo_is_read_in_a_new_process(tmp_path: Path) -> None:
    layers = [{"operation": "dft", "heads": 2, "width": 32, "count": 1}]
    FlexiBertConfig(vocab_size=64, hidden_size=16, layers=layers).save_pretrained(tmp_path)  # type: ignore[arg-type]
    code = f"from lpzero_hf import load_model; print(type(load_model({str(tmp_path)!r}).model).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "FlexiBertForMaskedLM", done.stderr
