"""The study of costs against torch's counters: what its tables say. That the counts agree is tested with the costs."""

from __future__ import annotations

from typing import Any

from studies.cost.counted import LATENCIES, counted, latencies, off, section


def told(**changes: Any) -> str:
    one = {"family": "gpt2", "vocabulary": 64, "flops": [100, 100], "decode_flops": [None, 0], "memory": [95, 100]}
    two = one | {"family": "llama", "flops": [101, 100], "decode_flops": [10, 10]}
    times = {"round": 0, "cost": "latency", "timed": 2.0, "whole": 5.0, "warnings": []}
    wrong = times | {"round": 1, "seconds": [0.002, 0.001, 0.003], "warnings": ["other work took 50%"]}
    return section({"counted": [one, two], "latencies": [times | {"seconds": [0.001, 0.002, 0.003]}, wrong]} | changes)


def test_the_largest_difference_is_told_and_what_is_not_counted_has_a_dash() -> None:
    text = told()
    assert "| gpt2 | 64 | +0.00% | — | -5.00% |" in text
    assert "| llama | 64 | +1.00% | +0.00% | -5.00% |" in text
    assert "1.00%, 0.00% and 5.0%." in text
    assert off([None, 0]) is off([1.0, 0]) is None


def test_a_broken_order_is_told_with_the_overhead_and_other_work() -> None:
    text = told()
    assert "| latency | 2 | 2.00 | 1.00 | 3.00 |" in text
    assert "The order was the same in 1 of 2." in text
    assert (
        "took 4.0 s, and the measurements 10.0 s in all, 2.5 times as long. Other work was told of in 1 of 2." in text
    )


def test_a_family_and_latencies_are_measured() -> None:
    one = counted("gpt2", 64)
    assert one["flops"][0] == one["flops"][1] > one["decode_flops"][1] == one["decode_flops"][0] > 0
    assert abs(off(one["memory"]) or 0.0) <= 0.15
    found = latencies(1, repeats=2, shapes=((1, 8), (1, 16)))
    assert [row["cost"] for row in found] == list(LATENCIES)
    assert all(len(row["seconds"]) == 2 and 0 < row["timed"] < row["whole"] for row in found)
