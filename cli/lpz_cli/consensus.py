"""`lpz bench consensus`: the proxies that agree with every benchmark at equal size, as one proxy."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from lpz_cli import options
from lpz_cli.bench import brief
from lpz_cli.export import refuse_installed
from lpz_cli.grouping import grouped
from lpz_cli.kept_warnings import KeptWarnings
from lpz_cli.libraries import load_libraries
from lpz_cli.output import print_csv, print_json, print_table, refuse_existing, say
from lpz_cli.progress import stages
from lpz_cli.run_facts import facts_of_run

NONE = "\u2014"


@grouped
def consensus(
    benchmarks: Annotated[list[str], typer.Argument(metavar="BENCH...", help="Benchmarks or tables.")],
    proxy: Annotated[
        list[str] | None,
        typer.Option("--proxy", "-p", help="A candidate. Repeatable.", show_default="all that were not searched"),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Of the new proxy.")] = "my-consensus",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write it as an artifact to this file.")] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Sequences in the minibatch; else the benchmark's.")
    ] = None,
    seq_len: Annotated[
        int | None, typer.Option("--seq-len", min=2, help="Tokens per sequence; else the benchmark's.")
    ] = None,
    limit: options.Limit = None,
    no_plugin: options.NoPlugin = None,
    *,
    matching: options.Matching,
    conditions: options.Conditions,
    workers: options.Workers,
    form: options.Form,
    table: options.Tables,
) -> None:
    """Choose the proxies that agree with every benchmark at equal size, and make one proxy of them.

    It is their geometric mean; no weight and no sign is fitted. `lpz bench transfer --consensus` tells what it is worth
    on a benchmark that it was not chosen on.

    Example: `lpz bench consensus gpt2-wt103 gpt2-lm1b --out mine.json`
    """
    if out is not None:
        refuse_existing(out, "--out")
    load_libraries()
    from lpzero_hf.artifacts.artifact import write_artifact
    from lpzero_hf.plugins import load_plugins
    from lpzero_hf.searching.find_consensus import find_consensus

    registry = load_plugins(no_plugin or ())
    refuse_installed(name, registry)
    device = conditions.setting(1, 2).device
    warned = KeptWarnings()
    with warned.keeping(), workers.start(device, registry) as executor, stages() as progress:
        found = find_consensus(
            benchmarks, proxy,
            setting=lambda b: conditions.setting(batch_size or b.batch_size, seq_len or b.seq_len),
            limit=limit, table=table.options(benchmarks), match=matching.match, within=matching.within,
            executor=executor, plugins=registry, progress=progress,
        )  # fmt: skip
    artifact = found.artifact(name)
    if out is not None:
        write_artifact(out, artifact)
    chosen = found.consensus
    places = dict.fromkeys(chosen.members, "member") | dict(chosen.left_out)
    header = ["proxy", *benchmarks, ""]
    if form.json:
        first = next(iter(found.reports.values()))
        print_json(
            {
                "name": name, "proxy": chosen.text, "members": list(chosen.members), "left_out": dict(chosen.left_out),
                "matched": {one: dict(of) for one, of in chosen.matched.items()},
                "agreement": {b: one.to_dict() for b, one in found.agreement.items()},
                "path": None if out is None else str(out), "sha256": artifact.digest,
                "settings": {b: report.setting.to_json() for b, report in found.reports.items()},
                "architectures": {b: [one.key for one in report.trained] for b, report in found.reports.items()},
                "sizes": {"match": first.match, "within": first.within}, "warnings": warned,
            } | facts_of_run(first.setting, workers.threads)
        )  # fmt: skip
        return
    if form.csv:
        told = "; ".join(warned)
        known = {one: chosen.matched.get(one, {}) for one in places}
        print_csv(
            [*header[:-1], "place", "warnings"],
            [[one, *(known[one].get(b, "") for b in benchmarks), why, told] for one, why in places.items()],
        )
        return
    rows = [
        [one, *(f"{of[b]:+.3f}" if b in (of := chosen.matched.get(one, {})) else NONE for b in benchmarks), why]
        for one, why in places.items()
    ]
    print_table(f"Agreement at equal size, by {matching.match}", header, rows, range(1, len(header) - 1))
    graded = [
        [b, brief(one.spearman), brief(one.matched.agreement if one.matched else None), str(one.n)]
        for b, one in found.agreement.items()
    ]
    header = ["benchmark", "Spearman's rho [95%]", "at equal size [95%]", "n"]
    print_table("The consensus, on what it was chosen on", header, graded, range(1, 4))
    then = shlex.quote(chosen.text if out is None else str(out))
    say(f"`lpz score MODEL --proxy {then}` scores with it.")
