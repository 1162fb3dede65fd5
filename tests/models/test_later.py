"""Libraries that are imported when code first uses them."""

import copy
import pickle
import subprocess
import sys

from lpzero_hf.models.later import LaterModule

CODE = """
import sys
from lpzero_hf.models.later import torch
assert "torch" not in sys.modules
assert torch.ones(2).sum() == 2
"""


def test_a_library_is_imported_when_it_is_used() -> None:
    assert subprocess.run([sys.executable, "-c", CODE], check=False).returncode == 0


def test_what_holds_one_can_be_copied_and_sent_to_another_process() -> None:
    later = LaterModule("json")
    for made in (copy.copy(later), copy.deepcopy(later), pickle.loads(pickle.dumps(later))):
        assert isinstance(made, LaterModule)
        assert made.loads("1") == 1
