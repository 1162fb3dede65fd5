"""The `lpz` application: its commands, and how errors and warnings are shown."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence

import typer

from lpz_cli import listing, options
from lpz_cli.bench import bench_app
from lpz_cli.export import export
from lpz_cli.hub import pull, push
from lpz_cli.nas import nas
from lpz_cli.output import quiet_stdout
from lpz_cli.plugin import plugin_app
from lpz_cli.rank import rank
from lpz_cli.report import report
from lpz_cli.score import score
from lpz_cli.search import search
from lpzero_hf.errors import ExecutorWarning, LpzError, MicroBatchWarning, ModelWarning, PluginWarning, one_line
from lpzero_hf.plugins import load_plugins

app = typer.Typer(
    name="lpz",
    help="Rank language-model architectures without training them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(score)
app.command()(rank)
app.command()(search)
app.command()(nas)
app.command()(report)
app.command()(export)
app.command()(push)
app.command()(pull)
app.command()(listing.proxies)
app.command()(listing.plugins)
app.add_typer(listing.zoo_app, name="zoo")
app.add_typer(bench_app, name="bench")
app.add_typer(plugin_app, name="plugin")
BUILT_IN = {command.callback.__name__ for command in app.registered_commands if command.callback}
BUILT_IN |= {str(group.name) for group in app.registered_groups}


@app.callback(invoke_without_command=True)
def root(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks; may stand anywhere. Also LPZ_DEBUG=1."),
) -> None:
    """Rank language-model architectures without training them."""
    if version:
        from lpzero_hf.versions import __version__

        typer.echo(f"lpzero-hf {__version__}")
        raise typer.Exit


def run(arguments: Sequence[str]) -> int:
    """Run `lpz` with `arguments` and return its exit code: 0 done, 1 the work failed, 2 wrong usage."""
    with warnings.catch_warnings():
        warnings.simplefilter("once", ModelWarning)
        for category in (ExecutorWarning, MicroBatchWarning, PluginWarning):
            warnings.simplefilter("always", category)
        warnings.simplefilter("default", ModelWarning)  # once for all architectures of one class
        warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
        return _run(arguments)


def _run(arguments: Sequence[str]) -> int:
    debug = options.debugging(arguments)
    arguments = [argument for argument in arguments if argument != "--debug"]
    if not debug:
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        command = next((argument for argument in arguments if not argument.startswith("-")), None)
        if command not in BUILT_IN:
            with quiet_stdout():
                for _ in load_plugins(options.without_plugins(arguments)).ask("lpz_commands", app=app):
                    pass  # each adds its commands to `app`
        try:
            typer.main.get_command(app).main(args=list(arguments), prog_name="lpz")
        except SystemExit as done:
            sys.stdout.flush()
            return done.code if isinstance(done.code, int) else 0
        return 0
    except LpzError as error:
        if debug:
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader of our output has gone, `lpz ... | head` for example
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            raise
        print(f"error: {one_line(error)}; run again with --debug for a traceback", file=sys.stderr)
        return 1


def main() -> None:
    """The entry point of the `lpz` command."""
    sys.exit(run(sys.argv[1:]))
