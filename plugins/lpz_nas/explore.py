"""Searches a space by any objectives under any limits, and writes the best architectures to a folder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lpz_nas.appraisal import Appraised, Appraiser
from lpz_nas.explored import Explored, none_inside, none_valued
from lpz_nas.finding import candidates_among, need
from lpz_nas.folder import FRONT, RESULT, STUDY, discard, open_folder, replacing_folder
from lpz_nas.goals import Goal, GoalLike, Limit, as_goals, as_limits
from lpz_nas.outcome import NothingScored
from lpzero_hf.artifacts.versions import versions
from lpzero_hf.benchmarks.benchmark import BenchmarkLike, named_benchmarks
from lpzero_hf.errors import LpzError, UsageError, one_line, said_once
from lpzero_hf.files import one_process, write_json
from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.proxies.base import Proxy
from lpzero_hf.proxies.resolve import warn_of_minibatch
from lpzero_hf.scoring.cache import ScoreCache
from lpzero_hf.scoring.comparability import warn_of_differences
from lpzero_hf.scoring.costs import Deployment
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.spaces.base import Architecture, SearchSpace
from lpzero_hf.spaces.named import load_space

if TYPE_CHECKING:
    import optuna

    from lpzero_hf.benchmarks.table_options import TableOptions

Strategy = Literal["auto", "exact", "nsga2", "tpe", "random", "evolution"]
MOST = 20_000  # members of a space that are enumerated
MAX_OUTSIDE = 200  # proposals, all outside the limits, after which a search stops
MAX_FAILED = 10  # architectures, all without a value, after which a search stops
ATTRIBUTE = "appraised"
Progress = Callable[[int, int, float | None], None]


@said_once
@one_process
def explore(
    space: str | Path | SearchSpace | None,
    goals: GoalLike | Iterable[GoalLike],
    limits: str | Limit | Iterable[str | Limit] = (),
    *,
    out: str | Path,
    trials: int = 100,
    strategy: Strategy = "auto",
    resume: bool = False,
    among: BenchmarkLike | None = None,
    table: TableOptions | None = None,
    deployment: Deployment | None = None,
    setting: Setting | None = None,
    cache: ScoreCache | None = None,
    threads: int = 1,
    plugins: PluginRegistry | None = None,
    progress: Progress | None = None,
) -> Explored:
    """Search a space for the best architecture by one objective, or for the Pareto front of several, under limits.

    Limited costs that need no weights are found out before a model is built; what a model has to run for, last. Every
    appraised architecture is kept in `out`, so that an interrupted search goes on with `resume`: with the same
    versions, and without measurements among objectives and limits, it finds what an uninterrupted one finds.

    Args:
        space: to search, or its name; None for that of the benchmark `among`.
        goals: the objectives: "proxy:NAME" to be large, the name of a cost to be small, or proxies and costs
            themselves; one or several, see `read_goals`.
        limits: of costs: "params <= 50M", or as `read_limits` reads them.
        out: the folder to write: `nas.json` (the settings), `study.sqlite`, `result.json`, and `front` with a folder
            for each architecture found, which `AutoConfig.from_pretrained` reads.
        trials: different architectures within the limits to appraise. The search ends earlier if 10 * trials + 50
            proposals contain fewer.
        strategy: "exact" appraises every architecture; "nsga2" (Deb et al. 2002) and "tpe" are Optuna's; "evolution"
            is that of LiteTransformerSearch; "random" draws. "auto" is exact where the space has at most `trials`
            members, else TPE for one objective and NSGA-II for several.
        resume: continue the search in `out`; `trials` may differ from before.
        among: only the architectures of this benchmark (a name or an object), without those that a proxy was searched
            on; all are appraised.
        table: how `among` is read if it is a table.
        deployment: how costs are measured.
        setting: minibatch, seed, precision and device of scores; its seed determines the proposals.
        cache: stores scores for later calls; None stores none.
        threads: CPU threads of scores.
        plugins: where names are looked up.
        progress: called with (architectures appraised, architectures to appraise, None).

    Raises:
        UsageError: a name is unknown, a number is out of range, or `out` holds another search.
        LpzError: nothing is within the limits (the message names the tightest), nothing has values, Optuna is missing,
            or a file cannot be read or written. A search that finds nothing leaves nothing in `out`.

    Warns (`ComparisonWarning`) of vocabularies, objectives and initial weights that differ between architectures with
    a score.
    """
    if trials < 1:
        raise UsageError(f"{trials} trials find nothing; ask for at least 1")
    need("optuna", "searching a space")
    start = time.perf_counter()
    out = Path(out)
    names, plugins = named_benchmarks(() if among is None else among, plugins)
    goals, limits = as_goals(goals, plugins), as_limits(limits, plugins)
    among = next(iter(names), None)
    deployment = Deployment() if deployment is None else deployment
    setting = (Setting(16, 64) if setting is None else setting).portable()
    proxies = [goal.by for goal in goals if isinstance(goal.by, Proxy)]
    prefix = str(space) if isinstance(space, str | Path) else ""
    space = None if space is None else load_space(space, plugins)
    candidates: list[Architecture] | None = None
    left_out = 0
    if among is not None:
        space, candidates, left_out = candidates_among(among, space, table, proxies, plugins)
        if strategy not in ("auto", "exact"):
            raise UsageError(f"`among=` compares all of {among}; leave out `strategy=`")
    if space is None:
        raise UsageError("name the space to search, or a benchmark to choose from with `among=`")
    chosen = _strategy(strategy, space, candidates, trials, len(goals))
    if chosen == "exact" and candidates is None:
        candidates = members(space)
    warn_of_minibatch(proxies, setting.batch_size, setting.seq_len)
    appraiser = Appraiser(
        space, goals, limits, deployment=deployment, setting=setting, cache=cache, plugins=plugins, threads=threads
    )
    made_with = versions() | {"optuna": version("optuna")}
    request = _request(space, goals, limits, chosen, among, deployment, setting, threads)
    if table is not None:
        request |= {"table": asdict(table)}
    open_folder(out, request | {"versions": made_with}, resume)
    try:
        log = _run(appraiser, chosen, candidates, trials, out / STUDY, setting.seed, progress)
    except NothingScored:
        discard(out)
        raise
    if proxies:
        configs = {one.architecture: space.config(space.parse(one.architecture)) for one in log.within}
        warn_of_differences(configs, setting)
    found = Explored(
        request | {"trials": trials}, tuple(goals), tuple(log.within), log.outside, log.failed,
        time.perf_counter() - start, made_with, left_out, prefix or space.name,
    )  # fmt: skip
    with replacing_folder(out / FRONT) as folder:
        for place, one in enumerate(found.front):
            config = space.config(space.parse(one.architecture))
            config.save_pretrained(folder / f"{place:03}")
            write_json(folder / f"{place:03}" / "appraisal.json", one.to_json())
    write_json(out / RESULT, found.to_json())
    return found


def members(space: SearchSpace) -> list[Architecture]:
    """Every member of a space, by text id. Raises `UsageError` if they are too many, or cannot be listed."""
    count = space.count()
    if count.high > MOST:
        raise UsageError(
            f"space '{space.name}' has {count.value:,} architectures, and `strategy=exact` takes at most {MOST:,}; "
            "choose another strategy"
        )
    if not count.exact:
        raise UsageError(f"the members of space '{space.name}' cannot all be listed; choose another `strategy=`")
    return sorted(space.samples(count.value), key=space.text)


def _strategy(
    wanted: Strategy, space: SearchSpace, candidates: list[Architecture] | None, trials: int, goals: int
) -> Strategy:
    if candidates is not None:
        return "exact"
    if wanted != "auto":
        return wanted
    count = space.count()
    if count.exact and count.value <= min(trials, MOST):
        return "exact"
    return "tpe" if goals == 1 else "nsga2"


class AppraisalLog:
    """What a search has appraised.

    Args:
        limits: of costs.
        trials: different architectures within them to appraise.
        exact: the number of all candidates where each is appraised; None in a search.
    """

    def __init__(self, limits: Sequence[Limit], trials: int, exact: int | None) -> None:
        self.limits, self.trials, self.exact = limits, trials, exact
        self.known: dict[str, Appraised] = {}
        self.proposed = 0

    def by_status(self, status: str) -> list[Appraised]:
        """The different architectures with that status, in the order tried."""
        return [one for one in self.known.values() if one.status == status]

    @property
    def within(self) -> list[Appraised]:
        """Those within the limits that have all values."""
        return self.by_status("ok")

    @property
    def outside(self) -> list[Appraised]:
        """Those outside a limit."""
        return self.by_status("outside")

    @property
    def failed(self) -> list[Appraised]:
        """Those that cannot be built, or have no value."""
        return self.by_status("failed")

    @property
    def left(self) -> int:
        """The number of proposals still allowed."""
        if self.exact is not None:
            return self.exact - self.proposed
        return 0 if len(self.within) >= self.trials else max(0, 10 * self.trials + MAX_OUTSIDE - self.proposed)

    def nothing(self) -> NothingScored:
        """The error where nothing is within the limits with all values."""
        return none_valued(self.failed) if self.failed else none_inside(self.limits, self.outside)

    def add(self, one: Appraised) -> None:
        """Note an appraisal. Raises `NothingScored` if a search is without hope."""
        self.proposed += 1
        self.known.setdefault(one.architecture, one)
        if self.exact is None and not self.within:
            if len(self.failed) >= MAX_FAILED:
                raise none_valued(self.failed)
            if self.proposed >= MAX_OUTSIDE:
                raise self.nothing()


def _run(
    appraiser: Appraiser,
    strategy: Strategy,
    candidates: list[Architecture] | None,
    trials: int,
    storage: Path,
    seed: int,
    progress: Progress | None,
) -> AppraisalLog:
    """Run, or go on with, the study of a search."""
    import optuna
    from optuna.trial import FrozenTrial

    from lpz_nas.optuna_study import FINISHED, create_study, ends, forget_interrupted, suggest
    from lpz_nas.samplers import StrategySampler
    from lpz_nas.space_search import quiet

    log = AppraisalLog(appraiser.limits, trials, None if candidates is None else len(candidates))
    limits = {limit.name: limit for limit in appraiser.limits}

    def one_trial(trial: optuna.Trial) -> tuple[float, ...]:
        try:
            architecture = suggest(trial, appraiser.space) if candidates is None else candidates[log.proposed]
            text = appraiser.space.text(architecture)
        except LpzError as error:
            found = Appraised("", "failed", reason=str(error))
        else:
            found = log.known.get(text) or appraiser(architecture)
        trial.set_user_attr(ATTRIBUTE, json.dumps(found.to_json()))
        for name, limit in limits.items():
            if limit.cost.name in found.costs:
                trial.set_constraint(name, limit.excess(found.costs[limit.cost.name]))
        if found.status != "ok":
            raise optuna.TrialPruned(found.reason)
        return tuple(found.values[goal.name] for goal in appraiser.goals)

    def report() -> None:
        if progress is not None:
            total = trials if log.exact is None else log.exact
            progress(len(log.within) if log.exact is None else log.proposed, total, None)

    def follow(study: optuna.Study, trial: FrozenTrial) -> None:
        log.add(_read(trial))
        report()
        if not log.left:
            study.stop()

    with quiet(), _storage_told(storage):
        sides = [any(limit.upper is upper for limit in appraiser.limits) for upper in (True, False)]
        first = [] if candidates is not None else ends(appraiser.space, *sides)
        sampler = StrategySampler("random" if strategy in ("exact", "auto") else strategy, seed, first)
        study = create_study(storage, sampler=sampler, signs=[goal.sign for goal in appraiser.goals])
        forget_interrupted(study)
        for trial in study.get_trials(deepcopy=False, states=FINISHED):
            if log.left:
                log.add(_read(trial))
        report()
        if log.left:
            study.optimize(one_trial, n_trials=log.left, callbacks=[follow])
    if not log.within:
        raise log.nothing()
    return log


def _read(trial: Any) -> Appraised:
    """The appraisal that a finished trial holds."""
    return Appraised.from_json(json.loads(trial.user_attrs[ATTRIBUTE]))


@contextmanager
def _storage_told(storage: Path) -> Iterator[None]:
    """Turns an error of the study's storage into one that names the remedy."""
    import optuna

    try:
        yield
    except optuna.exceptions.StorageInternalError as error:
        raise LpzError(f"the study in '{storage}' failed: {one_line(error)}; free disk space, then resume") from error


def _request(
    space: SearchSpace,
    goals: Sequence[Goal],
    limits: Sequence[Limit],
    strategy: Strategy,
    among: str | None,
    deployment: Deployment,
    setting: Setting,
    threads: int,
) -> dict[str, Any]:
    """Everything that determines the outcome except the number of trials, as plain data."""
    definition, facts = space.definition(), setting.to_json()
    named: dict[str, Mapping[str, Any]] = {
        goal.name: {"version": goal.by.version, "orientation": goal.by.orientation}
        if isinstance(goal.by, Proxy)
        else {"unit": goal.by.unit}
        for goal in goals
    }
    return {
        "space": space.name,
        **({} if definition is None else {"definition": definition}),
        "among": among,
        "objectives": named,
        "limits": {limit.name: limit.bound for limit in limits},
        "strategy": strategy,
        "deployment": deployment.to_json(),
        "setting": facts | {"text": facts["text"] or "embedded", "text_sha256": setting.content()},
        "threads": threads,
    }
