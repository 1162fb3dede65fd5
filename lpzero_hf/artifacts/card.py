"""The card of a proxy: the README beside an artifact, on the Hub or in a package."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lpzero_hf.artifacts.interval_text import between

if TYPE_CHECKING:
    from lpzero_hf.artifacts.artifact import Artifact

STATISTICS = """\
W is the weight of a linear layer, G its gradient, A the layer's output, J the gradient there, H the context of each
attention head, S the attention probabilities; the inner sum or mean runs over elements, the outer one over blocks."""
ROLES = {
    "ffn": "feed-forward layers, which are the linear layers outside attention (or the mixer in its place)",
    "mixer": "linear layers of attention, or of the mixer in its place",
}
HEADER = """\
| benchmark | ranked by | architectures | n | Spearman's rho [95%] | Kendall's tau-b [95%] |
|---|---|---|---|---|---|"""


def card(artifact: Artifact, repo: str = "") -> str:
    """The text of a README, in Markdown without metadata.

    Args:
        artifact: the proxy.
        repo: the Hub repository that the card stands in, `user/name`; empty for the card of a package that offers the
            proxy as a plugin.

    Example:
        >>> from lpzero_hf.artifacts.artifact import Artifact, Member
        >>> record = dict(benchmarks=["b"], strategy="random", seed=1, train={}, held_out={}, versions={})
        >>> print(card(Artifact("mine", (Member("sum(sum(W))", 1),), {}, record)).splitlines()[0])
        # mine
    """
    return "\n\n".join(
        [
            f"# {artifact.name}",
            "A zero-cost proxy for language models, found by symbolic search with lpzero-hf (after LPZero,\n"
            "[arXiv:2410.04808](https://arxiv.org/abs/2410.04808)). It looks at a randomly initialised Hugging Face\n"
            "model and one minibatch and returns a number, where higher is better: an estimate, without training, of\n"
            "how architectures would rank after it.",
            "## The proxy",
            _formula(artifact),
            "## How well it ranks",
            _numbers(artifact.provenance),
            "## Use",
            _use(artifact.name, repo),
            "## Where it comes from",
            "\n".join(f"- {name}: {_plain(value)}" for name, value in _origin(artifact)),
            "## What to keep in mind",
            _caution(artifact.provenance),
        ]
    ) + "\n"  # fmt: skip


def _formula(artifact: Artifact) -> str:
    lines = artifact.weighted
    text = "```\n" + "\n".join(lines) + "\n```\n\n"
    if artifact.composite:
        return (
            text + "The mean of the logarithms of the scores of these proxies, each counted so that higher is better."
        )
    text += STATISTICS
    for role, meaning in ROLES.items():
        if any(re.search(rf"\w_{role}\b", line) for line in lines):
            text += f"\nThe ending _{role} means: of the {meaning}."
    if any(member.orientation < 0 for member in artifact.members):
        text += " A leading minus\nmeans that lower is better; the loaded proxy already changes the sign."
    if len(artifact.members) > 1:
        text += (
            "\n\nThis is an ensemble: the score of each expression is put on one scale, its quantile among the\n"
            "architectures searched on, and the quantiles are summed."
        )
    return text


def _numbers(provenance: Mapping[str, Any]) -> str:
    rows = []
    for title, found in (("searched on", "train"), ("held out", "held_out"), ("further test", "tests")):
        rows += [(name, "this proxy", title, graded) for name, graded in provenance.get(found, {}).items()]
        for setting in provenance.get("settings", ()):
            under = f"{title}: {_setting(setting)}"
            rows += [(name, "this proxy", under, graded) for name, graded in setting.get(found, {}).items()]
    for name, graded in provenance.get("baselines", {}).items():
        rows += [(name, proxy, "held out", agreement) for proxy, agreement in graded.items()]
    if not rows:
        return "It has not been graded yet; `lpz bench eval` grades it."
    order = {name: place for place, name in enumerate(dict.fromkeys(name for name, *_ in rows))}
    rows.sort(key=lambda row: order[row[0]])
    table = [
        f"| {_plain(name)} | {_plain(proxy)} | {title} | {graded['n']} | {_estimate(graded.get('spearman'))} | "
        f"{_estimate(graded.get('kendall'))} |"
        for name, proxy, title, graded in rows
    ]
    return "\n".join([HEADER, *table])


def _setting(setting: Mapping[str, Any]) -> str:
    return f"{setting['batch_size']} x {setting['seq_len']} tokens, weights {setting['init_seed']}"


def _estimate(found: Mapping[str, float] | None) -> str:
    if found is None:
        return "—"
    return f"{found['value']:+.3f} {between(found['low'], found['high'], '{:+.3f}'.format)}"


def _use(name: str, repo: str) -> str:
    if repo:
        shell = [
            "pip install lpzero-hf",
            f"lpz score gpt2-variant --proxy hub:{repo}",
            f"lpz pull {repo}  # the file, verified, and the commit to pin: {repo}@COMMIT",
        ]
        loaded = repo
    else:
        shell = ["pip install .  # in this folder, beside lpzero-hf", f"lpz score gpt2-variant --proxy {name}"]
        loaded = name
    python = [
        "from lpzero_hf import load_model, load_proxy, minibatch",
        "",
        'model = load_model("gpt2-variant").model  # or any PreTrainedModel',
        f'load_proxy("{loaded}")(model, minibatch(model))',
    ]
    return "```\n" + "\n".join(shell) + "\n```\n\n```python\n" + "\n".join(python) + "\n```"


def _origin(artifact: Artifact) -> Iterator[tuple[str, str]]:
    made = artifact.provenance
    yield "benchmarks", ", ".join(made["benchmarks"])
    strategy = made["strategy"]
    if "space" in made:
        strategy += f" over {made['space']['size']:,} expressions"
    if "evaluated" in made:
        strategy += f", {made['evaluated']:,} evaluated"
    yield "search", strategy
    for name, key in (("fitness", "fitness"), ("winner chosen by", "select"), ("seed", "seed")):
        if key in made:
            yield name, str(made[key])
    if "matched" in made:
        yield "sizes alike", f"within {made['matched']['within']:g} times {made['matched']['match']}"
    if "split" in made:
        yield "split", f"{made['split']['number']} (of {made['split']['of']}, counted from 0)"
    if made.get("minibatch"):
        yield "minibatch", ", ".join(f"{name} {value}" for name, value in made["minibatch"].items())
    if "settings" in made:
        several = "; ".join(_setting(setting) for setting in made["settings"])
        yield "searched under all of", f"{several} ({made.get('over_settings', 'mean')} of these)"
    if made["versions"]:
        yield "versions", ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    if made.get("date"):
        yield "date", made["date"]
    yield "statistics", f"version {artifact.statistics}"
    yield "SHA-256 of the content", artifact.digest
    if made.get("note"):
        yield "note", made["note"]


def _caution(provenance: Mapping[str, Any]) -> str:
    lines = []
    if not provenance.get("held_out"):
        lines.append("- It has no held-out numbers: those above are of architectures it was chosen on, and too high.")
    elif provenance.get("train"):
        lines.append(
            "- Trust the held-out rows: on the architectures searched on, the expression was chosen to do well."
        )
    lines += [
        "- The numbers hold for these benchmarks. On another space, task or scale the ranking can be far worse: grade\n"
        "  it on a few models that you have trained (`lpz bench eval`) before you rely on it.",
        "- It ranks architectures; its value predicts no loss and no accuracy, and scores of different minibatches do\n"
        "  not compare. The number of parameters is a strong rival: compare with it.",
    ]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Text of an artifact, escaped so that Markdown shows it unchanged."""
    return re.sub(r"([\\`*_~&\[\]<>|])", r"\\\1", text)
