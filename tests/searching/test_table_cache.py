"""Tables kept in the cache say what they leave out, each time they are used."""

from __future__ import annotations

from pathlib import Path

import pytest

from lpzero_hf import parse
from lpzero_hf.errors import ModelWarning
from lpzero_hf.plugins import load_plugins
from lpzero_hf.proxies.expression_proxy import wanted_by
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.searching.table_cache import make_tables
from tests.support.families import tiny_model


def test_a_cached_table_tells_what_it_leaves_out(tmp_path: Path) -> None:
    configs = {"mixture": tiny_model("mixtral").config, "dense": tiny_model("llama").config}
    wanted = wanted_by([parse("sum(sum(sum(abs(A), disconnect(W))))")])
    for _ in range(2):
        with pytest.warns(ModelWarning, match="in 1 of 2") as caught:
            tables = make_tables(configs, wanted, Setting(2, 16), tmp_path, plugins=load_plugins())
        assert [len(table.notes) for table in tables] == [1, 0]
        assert tables[0].notes[0] in str(caught[0].message)
    assert len(list(tmp_path.iterdir())) == 2
