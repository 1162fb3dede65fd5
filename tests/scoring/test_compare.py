"""Models compared by proxies: places, pairs, seeds, what has no vote, and what is said at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from transformers import BertConfig, GPT2Config, MambaConfig

from lpzero_hf import ModelProxy, Setting, compare, load_model
from lpzero_hf.errors import LpzError, UsageError
from lpzero_hf.scoring.comparison import Comparison

SMALL = Setting(batch_size=2, seq_len=8)


def gpt2(layers: int, width: int = 16, heads: int = 2, **more: object) -> GPT2Config:
    return GPT2Config(n_layer=layers, n_embd=width, n_head=heads, vocab_size=4096, n_positions=32, **more)


def known(name: str, by_depth: dict[int, float | Sequence[float]]) -> ModelProxy:
    """A proxy that gives models of so many layers a score, or one score for each of the seeds from 42 on."""

    def evaluate(subject) -> float:
        value = by_depth[subject.layout.depth]
        return value if isinstance(value, float | int) else value[subject.seed - 42]

    return ModelProxy(name=name, formula="", evaluate=evaluate)


def places(found: Comparison) -> dict[str, int]:
    return {model.name: model.place for model in found.models}


def test_one_architecture_under_two_names_shares_its_place_and_is_said_to_be_one(tmp_path: Path) -> None:
    load_model("tiny-gpt2:d64.e32.k2-h2.i64-h4.i128").model.config.save_pretrained(tmp_path)
    names = ["tiny-gpt2:d64.e32.k2-h2.i64-h4.i128", str(tmp_path), "tiny-gpt2:d128.e32.k2-h2.i64-h4.i128"]
    found = compare(names, ["snip", "grad_norm", "num_heads"], seeds=2, setting=SMALL)
    member, folder, other = (next(m for m in found.models if m.name == name) for name in names)
    assert (member.place, member.rank, member.places) == (folder.place, folder.rank, folder.places)
    assert member.scores == folder.scores
    assert other.place in (1, 3)
    assert found.pair(*names[:2]).verdict == "same architecture"
    assert found.same == (tuple(sorted(names[:2])),)
    assert f"{' and '.join(sorted(names[:2]))} are the same architecture" in found.sentence


def test_the_order_of_the_names_does_not_matter() -> None:
    configs = {"a": gpt2(1, 32), "b": gpt2(2), "c": gpt2(3), "d": gpt2(2)}
    turned = dict(reversed(configs.items()))
    wanted = ["snip", "num_layers", "l2_norm"]
    there, back = (compare(models, wanted, seeds=2, setting=SMALL) for models in (configs, turned))
    assert there == back
    assert places(there)["b"] == places(there)["d"]
    assert there.same == (("b", "d"),)


def test_all_that_decides_no_score_and_no_size_is_said_to_be_equal_in_all_that_is_scored() -> None:
    explicit = gpt2(2, n_inner=64)  # what None stands for
    found = compare({"a": gpt2(2), "b": explicit}, "snip", seeds=2, setting=SMALL)
    assert found.pair("a", "b").verdict == "equal scores"
    assert places(found) == {"a": 1, "b": 1}
    assert "in all that is scored they are the same architecture" in found.sentence
    other = compare({"a": gpt2(2), "b": gpt2(2, heads=4)}, "params", seeds=2, setting=SMALL)
    assert other.pair("a", "b").verdict == "too close to tell"  # a count knows nothing of heads
    assert places(other) == {"a": 1, "b": 1}


def test_a_place_is_that_of_the_mean_rank_over_proxies_and_seeds() -> None:
    one = known("one", {1: 3.0, 2: 2.0, 3: 1.0})
    two = known("two", {1: [1.0, 3.0], 2: [2.0, 1.0], 3: [3.0, 2.0]})
    found = compare({"x": gpt2(1), "y": gpt2(2), "z": gpt2(3)}, [one, two], seeds=2, setting=SMALL)
    # by one: 1, 2, 3 twice; by two: 3, 2, 1 and 1, 3, 2, so 2, 2.5 and 1.5
    assert [(m.name, m.place, m.rank) for m in found.models] == [("x", 1, 1.5), ("y", 2, 2.25), ("z", 2, 2.25)]
    assert [m.places for m in found.models] == [{"one": 1, "two": 2}, {"one": 2, "two": 3}, {"one": 3, "two": 1}]
    assert found.models[0].scores["two"] == (1.0, 3.0)
    assert found.seeds == (42, 43)
    assert found.agreement == pytest.approx(-1 / 3)  # of 1, 2, 3 and 2, 2.5, 1.5


def test_the_better_one_is_ahead_only_beyond_the_share_that_counts_as_sure() -> None:
    better, worse = known("better", {1: 2.0, 2: 1.0}), known("worse", {1: 1.0, 2: 2.0})
    torn = known("torn", {1: [2.0, 1.0], 2: [1.0, 2.0]})
    models = {"x": gpt2(1), "y": gpt2(2)}
    sure = compare(models, [better, torn], seeds=2, sure=0.7, setting=SMALL)
    pair = sure.pair("y", "x")
    assert (pair.first, pair.wins, pair.losses, pair.of, pair.share) == ("x", 3, 1, 4, 0.75)
    assert (pair.proxies, pair.seeds, pair.verdict) == (1, 1, "ahead")
    assert "x is ahead of y in 1 of 2 draws by 1 of 2 proxies" in sure.sentence
    unsure = compare(models, [better, torn], seeds=2, sure=0.75, setting=SMALL)
    assert unsure.pair("x", "y").verdict == "too close to tell"
    assert "x and y are too close to tell (x is better in 3 of 4 scores)" in unsure.sentence
    assert places(compare(models, [better, worse], seeds=1, setting=SMALL)) == {"x": 1, "y": 1}


def test_all_that_are_tied_are_named_and_not_the_first_two() -> None:
    models = {name: gpt2(layers) for layers, name in enumerate("wxyz", 1)}
    level = known("level", dict.fromkeys(range(1, 5), 1.0))
    found = compare(models, level, seeds=2, setting=SMALL)
    assert set(places(found).values()) == {1}
    assert "w, x, y and z are too close to tell (w is better in 0 of 2 scores than x, in 0 than y and in 0 than z)" in (
        found.sentence
    )
    three = known("three", {1: 2.0, 2: 2.0, 3: 2.0, 4: 1.0})
    found = compare(models, three, seeds=2, setting=SMALL)
    assert "w, x and y are too close to tell" in found.sentence
    assert "their sizes differ by up to" in found.sentence


def test_all_that_share_the_second_place_are_named() -> None:
    models = {name: gpt2(layers) for layers, name in enumerate("wxyz", 1)}
    second = known("second", {1: 3.0, 2: 2.0, 3: 2.0, 4: 1.0})
    found = compare(models, second, seeds=2, setting=SMALL)
    one = "in 2 of 2 draws by 1 of 1 proxies"
    assert f"w is ahead of x {one} and of y {one}; " in found.sentence


def test_a_model_that_the_best_is_not_ahead_of_is_named_though_it_is_not_the_next() -> None:
    one = known("one", {1: [3.0, 1.0], 2: [2.0, 2.0], 3: [1.0, 3.0]})
    found = compare({"x": gpt2(1), "y": gpt2(2), "z": gpt2(3)}, one, seeds=2, setting=SMALL)
    assert "x, y and z are too close to tell (x is better in 1 of 2 scores than y, in 1 than z)" in found.sentence


def test_three_that_are_equal_in_all_that_is_scored_are_named_at_once() -> None:
    models = {"a": gpt2(2), "b": gpt2(2, n_inner=64), "c": gpt2(2, n_inner=64, summary_type="mean")}
    found = compare(models, "snip", seeds=2, setting=SMALL)
    assert found.sentence.startswith("a, b and c are equal by every proxy")
    assert found.sentence.count("equal") == 1


def test_lower_is_better_where_a_proxy_says_so() -> None:
    deep = ModelProxy(name="deep", formula="", orientation=-1, evaluate=lambda subject: subject.layout.depth)
    assert places(compare({"x": gpt2(1), "y": gpt2(2)}, deep, seeds=1, setting=SMALL)) == {"x": 1, "y": 2}


def test_a_proxy_without_a_score_of_some_model_has_no_vote() -> None:
    models = {"x": gpt2(1), "y": MambaConfig(hidden_size=16, num_hidden_layers=2, vocab_size=4096, state_size=4)}
    odd = known("odd", {1: 1.0, 2: [3.0, float("nan")]})
    found = compare(models, ["num_layers", "attention_confidence", odd], seeds=2, setting=SMALL)
    assert found.proxies == ("num_layers",)
    assert places(found) == {"y": 1, "x": 2}
    assert found.left_out["attention_confidence"].startswith("not applicable for y")
    assert found.left_out["odd"].startswith("invalid for y")
    assert found.models[0].places == {"num_layers": 1, "attention_confidence": None, "odd": None}
    assert found.models[0].scores["odd"] == (3.0, None)
    with pytest.raises(LpzError, match="no proxy scores all"):
        compare(models, odd, seeds=2, setting=SMALL)


def test_a_model_that_cannot_be_built_or_scored_leaves_the_others() -> None:
    names = ["bert-mini", "no such model", "gpt2-variant"]
    found = compare(names, "num_layers", seeds=1, setting=SMALL)
    assert places(found) == {"gpt2-variant": 1, "bert-mini": 2}
    assert isinstance(found.failed["no such model"], UsageError)
    short = GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=4096, n_positions=4)
    models = {"x": gpt2(1), "y": gpt2(2), "short": short}
    assert "4 positions" in str(compare(models, "snip", seeds=1, setting=SMALL).failed["short"])

    def strange(model, batch) -> float:
        if model.config.n_layer == 1:
            raise KeyError("gone")
        return float(model.config.n_layer)

    failed = compare({"x": gpt2(1), "y": gpt2(2), "z": gpt2(3)}, strange, seeds=1, setting=SMALL)
    assert "gone" in str(failed.failed["x"])
    assert places(failed) == {"z": 1, "y": 2}


def test_the_minibatch_is_as_long_as_the_shortest_model_where_no_length_is_asked_for() -> None:
    found = compare({"x": gpt2(1), "y": gpt2(2)}, "snip", seeds=1)
    assert (found.setting.batch_size, found.setting.seq_len) == (16, 32)


def test_counts_alone_need_no_minibatch() -> None:
    tiny = GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=50, n_positions=32)  # no text fits its vocabulary
    found = compare({"x": tiny, "y": gpt2(2)}, "params", seeds=1, setting=SMALL)
    assert places(found) == {"y": 1, "x": 2}
    assert list(found.models[0].sizes) == ["params", "decoder_params"]


def test_other_sizes_kinds_and_vocabularies_are_warned_of() -> None:
    alike = compare({"x": gpt2(2), "y": gpt2(2, heads=4)}, "snip", seeds=1, setting=SMALL)
    assert alike.warnings == ()
    assert alike.pair("x", "y").apart == 0
    assert "their sizes are equal" in alike.sentence
    bert = BertConfig(num_hidden_layers=2, hidden_size=64, num_attention_heads=2, intermediate_size=64, vocab_size=5000)
    found = compare({"x": gpt2(2), "bert": bert}, "num_layers", seeds=1, setting=SMALL)
    kinds, size, objective, vocabulary = found.warnings
    assert "objectives differ" in objective
    assert "decoder: x; encoder: bert" in kinds
    assert "bert has" in size
    assert "4,096, 5,000" in vocabulary


def test_without_proxies_the_recommended_ones_vote_and_sizes_stand_beside() -> None:
    from lpzero_hf import recommended

    found = compare({"x": gpt2(1), "y": gpt2(2)}, seeds=1, setting=SMALL)
    wanted = [proxy.name for proxy in recommended("decoder")]
    assert [*wanted[:2], *found.models[0].places] == wanted
    assert list(found.models[0].sizes) == ["params", "decoder_params", "flops"]
    assert all(size is not None for size in found.models[0].sizes.values())


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        (["gpt2-variant"], {}, "two models"),
        (["gpt2-variant", "bert-mini", "gpt2-variant"], {}, "named twice"),
        (["gpt2-variant", "nothing here"], {}, "nothing here"),
        (["gpt2-variant", "bert-mini"], {"seeds": 0}, "1 or more"),
        (["gpt2-variant", "bert-mini"], {"sure": 1.0}, "0.5 to below 1"),
        (["gpt2-variant", "bert-mini"], {"proxies": "snipp"}, "'snipp'"),
    ],
)
def test_bad_requests_are_wrong_usage(models: list[str], options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        compare(models, **options)
