"""What is rejected before evaluation, or after a part of it, is provably no loss."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product
from pathlib import Path

import pytest
import torch
from scipy import stats  # type: ignore[import-untyped]  # scipy ships no types
from torch import Tensor
from transformers import GPT2Config, PreTrainedConfig

from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.benchmarks.grade import spaced
from lpzero_hf.expressions.canonical import canonical
from lpzero_hf.expressions.expression import (
    BUILT_IN,
    DISCONNECT,
    FOLDS,
    STATISTIC_NAMES,
    Branch,
    Chain,
    Expression,
    parse,
)
from lpzero_hf.expressions.stacked import Stack
from lpzero_hf.expressions.tables import PAIRS, Wanted
from lpzero_hf.plugins import load_plugins
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.searching.correlation import RankCorrelation
from lpzero_hf.searching.expression_space import ExpressionSpace
from lpzero_hf.searching.fitness import FitnessEvaluator, SearchPart, combined
from lpzero_hf.searching.pruning import REASONS, Pruner, useless
from lpzero_hf.searching.table_cache import make_tables

NAMES = [name for name in BUILT_IN if name != "disconnect"]
DROPPED = {name: Branch("G" if name == "W" else "W", DISCONNECT) for name in STATISTIC_NAMES}


# The rules -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("sum(sum(sum(disconnect(W), disconnect(G))))", "dropped"),
        ("sum(mean(product(abs(disconnect(W)), disconnect(log(G)))))", "dropped"),
        ("sum(sum(product(revert(revert(W)), abs(G))))", "inverse"),
        ("sum(sum(product(abs(W), revert(no_op(revert(G))))))", "inverse"),
        ("sum(sum(sum(relu(revert(S)), abs(W))))", "conflict"),
        ("sum(mean(product(sqrt(revert(pow(W))), J)))", "conflict"),
        ("sum(sum(sum(log(logsoftmax(A)), disconnect(J))))", "conflict"),
        ("sum(sum(sum(min_max_normalize(to_mean_scalar(W)), G)))", "constant"),
        ("sum(sum(product(to_std_scalar(l1_norm(W)), H)))", "constant"),
        ("sum(sum(product(softmax(to_mean_scalar(W)), G)))", "constant"),  # a factor of 1
        ("sum(sum(sum(normalize(W), disconnect(G))))", "constant"),
        ("sum(mean(difference(disconnect(W), to_mean_scalar(normalize(G)))))", "constant"),
        ("sum(sum(sum(normalize(W), abs(G))))", "constant"),  # what sums to 0 adds nothing to a sum
        ("sum(sum(difference(abs(A), normalize(J))))", "constant"),
        ("sum(sum(sum(normalize(W), frobenius_norm(H))))", "constant"),
        ("mean(sum(product(normalize(W), pow(H))))", "constant"),  # apart, each is summed first
        ("mean(mean(product(softmax(to_mean_scalar(W)), pow(H))))", "constant"),
        ("sum(sum(matmul(softmax(to_mean_scalar(W)), pow(G))))", "constant"),  # of a scalar, the product
    ],
)
def test_what_cannot_be_better_is_rejected_for_its_reason(text: str, reason: str) -> None:
    assert reason in REASONS
    expression = parse(text)
    swapped = Expression(
        expression.right, expression.op, expression.left, expression.reduce, expression.aggregate
    )  # fmt: skip
    assert useless(expression) == useless(swapped) == reason


@pytest.mark.parametrize(
    "text",
    [
        "sum(sum(product(abs(W), abs(G))))",
        "sum(sum(sum(W, disconnect(G))))",
        "sum(sum(sum(exp(log(A)), H)))",  # not the inverse where x is negative
        "sum(sum(sum(sqrt(pow(A)), H)))",  # |x|, but for squares that overflow
        "sum(sum(sum(log(exp(invert(J))), disconnect(W))))",  # min(1 / x, 80)
        "sum(sum(sum(invert(invert(A)), H)))",  # 1e9 where 1 / x is 0
        "sum(sum(sum(abslog(exp(W)), disconnect(H))))",
        "sum(sum(sum(exp(log(sigmoid(S))), H)))",  # but for rounding
        "sum(sum(sum(relu(revert(A)), H)))",
        "sum(sum(product(normalize(W), G)))",  # a covariance
        "sum(sum(matmul(normalize(W), G)))",
        "sum(sum(sum(softmax(to_mean_scalar(W)), G)))",  # adds the number of elements
        "sum(sum(sum(softmax(to_mean_scalar(W)), disconnect(G))))",  # the number of sites
        "mean(sum(product(softmax(to_mean_scalar(W)), pow(H))))",  # times the number of sites
        "sum(sum(sum(pow(normalize(W)), disconnect(G))))",
        "sum(sum(sum(normalize(W), frobenius_norm(G))))",  # the norm once for every element of W
        "sum(mean(difference(normalize(W), to_std_scalar(G))))",
        "sum(sum(sum(relu(revert(abs(W))), frobenius_norm(G))))",
        "sum(sum(product(exp(relu(revert(abs(W)))), frobenius_norm(G))))",
        "sum(sum(matmul(exp(relu(revert(abs(W)))), G)))",
    ],
)
def test_what_may_be_better_passes(text: str) -> None:
    assert useless(parse(text)) == ""


# No loss ---------------------------------------------------------------------------------------------------


class Raw:
    """Scores of expressions as they are written: no chain is taken for another.

    Sums in float64 that are 0 on paper come out as noise, which would be ranked. So each score is compared with that of
    the branches' magnitudes, and is 0 if it is a 10^-12 of it.
    """

    def __init__(self, configs: Mapping[str, PreTrainedConfig], longest: int, folder: Path) -> None:
        self.n = len(configs)
        chains: list[Chain] = [chain for length in range(1, longest + 1) for chain in product(NAMES, repeat=length)]
        every = tuple(dict.fromkeys([*chains, *map(self.magnitude, chains)]))
        wanted = Wanted(dict.fromkeys(STATISTIC_NAMES, every), PAIRS)
        self.place = {chain: slice(i, i + 1) for i, chain in enumerate(every)}
        setting = Setting(2, 6, random_tokens=True, dtype="float64")
        self.stack = Stack(make_tables(configs, wanted, setting, folder, plugins=load_plugins()), wanted)

    @staticmethod
    def magnitude(chain: Chain) -> Chain:
        """A chain whose total is that of the absolute values, or about that."""
        chain = tuple("l1_norm" if name in ("to_mean_scalar", "normalized_sum") else name for name in chain)
        signed = ("log", "abslog", "normalize", "invert", "logsoftmax", "revert", "no_op")
        return (*chain, "abs") if chain[-1] in signed else chain

    def _fold(self, e: Expression, op: str, chain: Callable[[Chain], Chain]) -> Tensor:
        kept = [branch for branch in e.branches if not branch.dropped]
        places = [self.place[chain(branch.chain)] for branch in kept]
        if len(kept) == 1:
            return self.stack.alone(kept[0].statistic, e.reduce, e.aggregate, *places)[:, 0]
        left, right = (branch.statistic for branch in kept)
        return self.stack.grid(left, right, op, e.reduce, e.aggregate, *places)[:, 0, 0]

    def score(self, e: Expression) -> tuple[Tensor, Tensor]:
        """[n], the scores, and [n], those of the magnitudes."""
        values = self._fold(e, e.op, lambda chain: chain)
        sizes = self._fold(e, "sum" if e.op == "difference" else e.op, self.magnitude).abs()
        return torch.where(values.abs() <= 1e-12 * sizes, 0.0, values), sizes


def ties(scores: Tensor) -> Tensor:
    """The ranks of each row [m, n], with one rank for scores that differ by less than a 10^-9 of their size: in equal
    expressions, rounding may separate equal scores. All are -1 where one is not finite."""
    values, order = scores.sort(1)
    steps = values.diff(dim=1) > 1e-9 * torch.maximum(values[:, 1:].abs(), values[:, :-1].abs())
    ranks = torch.cat([torch.zeros(len(scores), 1, dtype=torch.int64), steps.cumsum(1)], 1)
    ranks = torch.empty_like(ranks).scatter_(1, order, ranks)
    return torch.where(torch.isfinite(scores).all(1, keepdim=True), ranks, -1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Raw, list[float]]:
    """Sixteen architectures of tiny-gpt2 under one operation in each branch, and how good they are."""
    benchmark = load_benchmark("tiny-gpt2")
    entries = spaced(benchmark.trained(), 16)
    configs = {entry.key: benchmark.space.config(entry.architecture) for entry in entries}
    return Raw(configs, 1, tmp_path_factory.mktemp("tiny")), [benchmark.target(entry) for entry in entries]


@pytest.fixture(scope="module")
def micro(tmp_path_factory: pytest.TempPathFactory) -> Raw:
    """Six GPT-2s of 8 to 16 features under two operations in each branch."""
    rng = random.Random(1)
    configs: dict[str, PreTrainedConfig] = {
        str(i): GPT2Config(
            n_layer=rng.choice((1, 2, 3)), n_embd=rng.choice((8, 12, 16)), n_inner=rng.choice((8, 20, 32)),
            n_head=rng.choice((1, 2, 4)), vocab_size=64, n_positions=8, bos_token_id=1, eos_token_id=1,
        )
        for i in range(6)
    }  # fmt: skip
    return Raw(configs, 2, tmp_path_factory.mktemp("micro"))


def flat(scores: Tensor) -> bool:
    """Whether scores rank nothing: all are equal, or one is not finite."""
    return not bool(torch.isfinite(scores).all()) or bool((ties(scores[None]) == 0).all())


def proportional(raw: Raw, one: Expression, other: Expression, digits: float) -> bool:
    """Whether the scores are equal but for a factor, to a fraction of what they are sums of."""
    (x, size), (y, _) = raw.score(one), raw.score(other)
    if flat(x) or flat(y):
        return flat(x) == flat(y) or bool((x.abs() <= digits * size).all())
    return bool(((x - y * (x @ y) / (y @ y)).abs() <= digits * torch.maximum(x.abs(), size)).all())


def simpler(expression: Expression) -> list[Expression]:
    """What a useless expression can be equal to: one of its branches alone, or its shortest form."""
    folds = expression.reduce, expression.aggregate
    alone = [Expression(b, "sum", DROPPED[b.statistic], *folds) for b in expression.branches if not b.dropped]
    return [*alone, canonical(expression)]


@pytest.mark.integration
def test_no_ranking_is_lost_from_the_space_of_one_operation(tiny: tuple[Raw, list[float]]) -> None:
    raw, truth = tiny
    stack, fitness = raw.stack, RankCorrelation(truth)
    places = torch.tensor([raw.place[name,].start for name in NAMES])
    sizes = torch.tensor([raw.place[raw.magnitude((name,))].start for name in NAMES])

    def ranked(values: Tensor, size: Tensor) -> Tensor:
        """[n, ...] to [..., n]"""
        snapped = torch.where(values.abs() <= 1e-12 * size.abs(), 0.0, values)
        return ties(snapped.reshape(raw.n, -1).T).reshape(*values.shape[1:], raw.n)

    rankings: dict[tuple[str, ...], Tensor] = {}
    for fold in FOLDS:  # over elements and blocks alike; the four combinations would take twice as long
        for name in STATISTIC_NAMES:
            values = stack.alone(name, fold, fold)
            made = ranked(values[:, places], values[:, sizes])
            rankings |= {(fold, name, one): made[i] for i, one in enumerate(NAMES)}
        for (left, right), op in product(combinations(STATISTIC_NAMES, 2), ("sum", "difference", "product", "matmul")):
            values = stack.grid(left, right, op, fold, fold)[:, places][:, :, places]
            size = stack.grid(left, right, "sum" if op == "difference" else op, fold, fold)[:, sizes][:, :, sizes]
            made = ranked(values, size)
            rankings |= {
                (fold, left, one, op, right, other): made[i, j]
                for (i, one), (j, other) in product(enumerate(NAMES), repeat=2)
            }

    def ranking(e: Expression) -> Tensor:
        kept = [(branch.statistic, branch.chain[0]) for branch in e.branches if not branch.dropped]
        return rankings[(e.reduce, *kept[0]) if len(kept) == 1 else (e.reduce, *kept[0], e.op, *kept[1])]

    pruner = Pruner(stacks=[stack])
    alive: list[Tensor] = []
    dead: list[Tensor] = []
    both = 0
    for fold in FOLDS:
        for expression in ExpressionSpace((1, 1), (fold,), (fold,)):
            reason = pruner.reject(expression)
            if reason == "dropped":
                both += 1
            else:
                (dead if reason else alive).append(ranking(expression))
    assert both == pruner.counts["dropped"] == 2 * 15 * 4
    assert len(alive) + pruner.counts.total() == 2 * 26_460
    assert len(dead) == pruner.counts.total() - both > 20_000
    assert {"constant", "equivalent", "equal tables"} <= set(pruner.counts)
    kept = {bytes(row.tolist()) for row in alive if row[0] >= 0}
    kept |= {bytes((row.max() - row).tolist()) for row in alive}  # upside down
    lost = [row for row in dead if not bool((row == row[0]).all()) and bytes(row.tolist()) not in kept]
    assert lost == []
    best, of_all = (fitness(torch.stack(rows).double()).abs().nan_to_num(0).max() for rows in (alive, alive + dead))
    assert best == of_all > 0.5


@pytest.mark.integration
def test_what_is_useless_in_the_space_of_one_operation_is_equal_to_something_simpler(micro: Raw) -> None:
    rejected = 0
    for fold in FOLDS:
        for expression in ExpressionSpace((1, 1), (fold,), (fold,), "WGAS"):
            if useless(expression) not in ("", "dropped"):
                rejected += 1
                assert any(proportional(micro, expression, other, 1e-10) for other in simpler(expression)), expression
    assert rejected > 1500


@pytest.mark.integration
def test_what_is_rejected_of_the_space_of_two_operations_is_equal_to_something_simpler(micro: Raw) -> None:
    space, rng = ExpressionSpace((2, 2)), random.Random(0)
    counts: Counter[str] = Counter()
    for _ in range(3000):
        expression = space.draw(rng)
        reason = useless(expression)
        counts[reason] += 1
        if reason == "dropped":
            continue
        assert proportional(micro, expression, canonical(expression), 1e-10), expression
        if reason:
            assert any(proportional(micro, expression, other, 1e-7) for other in simpler(expression)), expression
    assert all(counts[reason] > 10 for reason in ("", "dropped", "inverse", "conflict", "constant"))


def test_reasons_are_counted_and_what_was_seen_is_rejected() -> None:
    pruner, space, rng = Pruner(), ExpressionSpace((2, 1)), random.Random(3)
    reasons = Counter(pruner.reject(space.draw(rng)) for _ in range(3000))
    passed = reasons.pop("")
    assert reasons == pruner.counts
    assert passed + pruner.counts.total() == 3000
    assert set(reasons) <= set(REASONS)
    assert len(pruner.seen()) == passed
    for text in pruner.seen()[:50]:
        assert pruner.reject(parse(text)) == "equivalent"
    again = Pruner()
    for text in pruner.seen():
        again.remember(parse(text))
    assert again.seen() == pruner.seen()
    assert not again.counts


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sum(sum(product(abs(W), abs(G))))", "sum(sum(product(abs(G), abs(W))))"),
        ("sum(sum(difference(abs(W), H)))", "sum(sum(difference(H, abs(W))))"),  # the sign turns
        ("sum(sum(sum(disconnect(W), abs(H))))", "sum(sum(matmul(abs(H), disconnect(A))))"),
        ("sum(mean(matmul(abs(W), H)))", "sum(mean(product(abs(W), H)))"),
        ("sum(mean(sum(revert(revert(W)), log(A))))", "sum(mean(sum(W, log(A))))"),
    ],
)
def test_equal_expressions_pass_once(one: str, other: str) -> None:
    pruner = Pruner()
    pruner.remember(parse(one))
    assert pruner.reject(parse(other)) in ("equivalent", "inverse")
    assert pruner.counts.total() == 1


def test_a_branch_that_adds_nothing_still_restricts_the_blocks() -> None:
    """Where a block has no attention, a sum of W and H leaves out its W."""
    zero = parse("sum(sum(sum(W, relu(revert(abs(H))))))")
    assert useless(zero) == "conflict"
    assert useless(zero, whole=False) == ""
    assert useless(parse("sum(sum(product(W, relu(revert(abs(H))))))"), whole=False) == "conflict"
    assert useless(parse("sum(sum(sum(W, relu(revert(abs(G))))))"), whole=False) == "conflict"


def test_a_pruner_knows_whether_every_block_has_all_statistics(micro: Raw) -> None:
    zero = parse("sum(sum(sum(W, relu(revert(S)))))")
    stack = micro.stack.part(range(micro.n))
    assert stack.whole
    assert Pruner(stacks=[stack]).reject(zero) == "conflict"
    stack.counts = {group: counts.clone() for group, counts in stack.counts.items()}
    stack.counts["softmax"][:, 0, 0] = 0  # the first block of the first architecture
    assert not stack.whole
    assert Pruner(stacks=[stack]).reject(zero) == Pruner().reject(zero) == ""


def test_tables_that_differ_in_the_last_bit_have_other_signatures(micro: Raw) -> None:
    chains = micro.stack.wanted.chains["W"]
    branch, other = Branch("W", chains[0]), Branch("W", chains[1])
    for value, near in ((1e39, 2e39), (1.0, 1.0 + 2**-52), (1e-60, 2e-60)):
        stack = micro.stack.part(range(micro.n))
        stack.totals = {name: totals.clone() for name, totals in stack.totals.items()}
        stack.scalar = {name: torch.zeros_like(scalar) for name, scalar in stack.scalar.items()}
        stack.totals["W"][..., :2] = value
        assert stack.signature(branch) == stack.signature(other)
        stack.totals["W"][0, 0, 0, 1] = near
        assert stack.signature(branch) != stack.signature(other)


# Early stopping --------------------------------------------------------------------------------------------


class Given(Stack):
    """Gives the same scores for every expression."""

    def __init__(self, scores: Tensor) -> None:
        self.scores, self.n = scores, len(scores)

    def part(self, architectures: Sequence[int]) -> Given:
        return Given(self.scores[list(architectures)])

    def score(self, expression: Expression) -> Tensor:
        return self.scores


@pytest.mark.parametrize("tied", [False, True])
def test_the_bound_is_never_below_what_the_rho_comes_to(tied: bool) -> None:
    rng = random.Random(4)
    sharp = 0
    for _ in range(400):
        n = rng.randint(3, 14)
        truth = torch.tensor([float(rng.randint(0, 3) if tied else rng.random()) for _ in range(n)]).double()
        scores = torch.tensor(rng.sample(range(100), n)).double()
        if bool((truth == truth[0]).all()):
            continue
        rho = float(stats.spearmanr(scores, truth).statistic)
        assert float(RankCorrelation(truth.tolist())(scores)) == pytest.approx(rho, abs=1e-12)
        subject = SearchPart(Given(scores), RankCorrelation(truth.tolist()))
        above = below = 1.0
        for m in range(2, n):
            ((_, bound),) = FitnessEvaluator([subject], early=m).first
            up, down = bound(scores[:m])
            assert above + 1e-12 >= up >= rho - 1e-12  # the more is known, the less is left to hope for
            assert below + 1e-12 >= down >= -rho - 1e-12
            above, below = up, down
            sharp += up < 0.999
    assert sharp > 1000


def subjects(raw: Raw, truths: list[list[float]]) -> list[SearchPart]:
    return [SearchPart(raw.stack, RankCorrelation(truth)) for truth in truths]


@pytest.mark.parametrize("combine", ["mean", "worst"])
@pytest.mark.integration
def test_an_expression_that_is_bounded_out_could_not_have_reached_the_threshold(
    tiny: tuple[Raw, list[float]], combine: str
) -> None:
    raw, truth = tiny
    rng = random.Random(5)
    both = subjects(raw, [truth, [t + rng.gauss(0, 0.1) for t in truth]])
    slow = FitnessEvaluator(both, combine)  # type: ignore[arg-type]  # from the parameters
    verdicts: Counter[str] = Counter()
    space = ExpressionSpace()
    for early in (3, 8, 13, 15):
        quick = FitnessEvaluator(both, combine, early)  # type: ignore[arg-type]
        for _ in range(150):
            expression = space.draw(rng)
            whole = slow(expression)
            for threshold in (0.0, 0.3, 0.8, whole.fitness or 0.5):
                got = quick(expression, threshold)
                verdicts[got.rejected] += 1
                if got.rejected == "bounded out":
                    if whole.fitness is None:
                        assert whole.rejected in ("invalid", "all equal")
                    elif all(len(set(s.source.score(expression).tolist())) == s.source.n for s in both):
                        assert whole.fitness < threshold
                else:
                    assert got == whole
    assert verdicts["bounded out"] > 100
    assert verdicts[""] > 500


def test_scores_that_are_not_finite_and_scores_that_are_equal_are_caught(tiny: tuple[Raw, list[float]]) -> None:
    raw, truth = tiny
    broken = "sum(sum(sum(W, exp(H))))"
    stack = raw.stack.part(range(raw.n))
    stack.totals = {name: totals.clone() for name, totals in stack.totals.items()}
    stack.totals["H"][0, 2] = torch.inf  # of the third architecture
    for early in (0, 3, 2):
        judge = FitnessEvaluator([SearchPart(stack, RankCorrelation(truth))], early=early)
        assert judge(parse(broken)).rejected == "invalid"
        assert judge(parse(broken)).fitness is None
        assert judge(parse("sum(sum(sum(disconnect(W), disconnect(G))))")).rejected == "invalid"
        stack.totals["J"][:] = (stack.counts["output"][0] > 0).double()[:, :, None]  # 1 for every block
        assert judge(parse("mean(sum(sum(disconnect(W), J)))")).rejected == "all equal"
        assert judge(parse("sum(sum(sum(disconnect(W), J)))")).fitness is not None  # counts the blocks


def test_one_orientation_serves_every_benchmark() -> None:
    correlations = torch.tensor([[0.9, -0.8, 0.5, -0.3], [0.5, -0.4, -0.7, 0.1]]).double()
    fitness, orientation = combined(correlations, "mean")
    assert fitness.tolist() == pytest.approx([0.7, 0.6, 0.1, 0.1])
    assert orientation.tolist() == [1, -1, -1, -1]
    fitness, orientation = combined(correlations, "worst")
    assert fitness.tolist() == pytest.approx([0.5, 0.4, -0.5, -0.1])
    assert orientation.tolist() == [1, -1, -1, -1]


def test_an_expression_that_ranks_the_other_way_round_has_an_orientation_of_minus_one() -> None:
    class Weights(Stack):
        def __init__(self) -> None:
            self.n, self.device = 4, torch.device("cpu")

        def score(self, expression: Expression) -> Tensor:
            return torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)

    for truth, orientation in (([1.0, 2.0, 3.0, 4.0], 1), ([4.0, 3.0, 2.0, 1.0], -1)):
        made = FitnessEvaluator([SearchPart(Weights(), RankCorrelation(truth))])(parse("sum(sum(sum(W, G)))"))
        assert (made.fitness, made.orientation) == (pytest.approx(1), orientation)
