"""The `lpz` application: its commands, and how errors and warnings are shown."""

from __future__ import annotations

import functools
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import typer

from lpz_cli import entry, listing, options, zoo
from lpz_cli.bench import bench_app
from lpz_cli.bench_train import train
from lpz_cli.compare import compare
from lpz_cli.consensus import consensus
from lpz_cli.cost import cost
from lpz_cli.export import export
from lpz_cli.hub import pull, push
from lpz_cli.nas import nas
from lpz_cli.output import tell
from lpz_cli.plugin import plugin_app
from lpz_cli.rank import rank
from lpz_cli.report import report
from lpz_cli.score import score
from lpz_cli.search import search
from lpz_cli.transfer import transfer
from lpzero_hf.errors import (
    ExecutorWarning,
    LpzError,
    MicroBatchWarning,
    ModelWarning,
    PluginWarning,
    RoundingWarning,
    one_line,
    printable,
)
from lpzero_hf.foreign import Survived, stdout_kept
from lpzero_hf.plugins import DISABLE_VARIABLE, load_plugins

app = typer.Typer(
    name="lpz",
    help="Rank language-model architectures without training them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(score)
app.command()(compare)
app.command()(cost)
app.command()(rank)
app.command()(search)
app.command()(nas)
app.command()(report)
app.command()(export)
app.command()(push)
app.command()(pull)
app.command()(listing.proxies)
app.command()(listing.plugins)
app.add_typer(zoo.zoo_app, name="zoo")
bench_app.command()(train)
bench_app.command()(transfer)
bench_app.command()(consensus)
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
        from lpzero_hf.artifacts.versions import __version__

        typer.echo(f"lpzero-hf {__version__}")
        raise typer.Exit


def run(arguments: Sequence[str]) -> int:
    """Run `lpz` with `arguments` and return its exit code: 0 done, 1 the work failed, 2 wrong usage.

    Raises:
        KeyboardInterrupt: on Ctrl-C.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("once", ModelWarning)
        warnings.simplefilter("ignore", RoundingWarning)  # it is among the notes of the score
        for category in (ExecutorWarning, MicroBatchWarning, PluginWarning):
            warnings.simplefilter("always", category)
        warnings.showwarning = lambda message, *_: tell(f"warning: {message}")
        factory = logging.getLogRecordFactory()
        logging.setLogRecordFactory(functools.partial(_readable, factory))
        try:
            return _run(arguments)
        finally:
            logging.setLogRecordFactory(factory)


def _readable(factory: Callable[..., logging.LogRecord], *arguments: Any, **options: Any) -> logging.LogRecord:
    """A message of another library, for its log on standard error, without control characters."""
    record = factory(*arguments, **options)
    record.msg, record.args = printable(record.getMessage()), None
    return record


def _run(arguments: Sequence[str]) -> int:
    debug = options.debugging(arguments)
    arguments = [argument for argument in arguments if argument != "--debug"]
    if not debug:
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        with _turned_off(options.without_plugins(arguments)):
            return _command(arguments)
    except LpzError as error:
        if debug:
            raise
        tell(f"error: {error}")
        return error.exit_code
    except BrokenPipeError:  # the reader of our output has gone, `lpz ... | head` for example
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except Exception as error:
        if debug:
            raise
        if entry.interrupted():  # an import, for example, that was cut short
            raise KeyboardInterrupt from error
        tell(f"error: {one_line(error)}; run again with --debug for a traceback")
        return 1


def _command(arguments: Sequence[str]) -> int:
    """Run a command of `lpz`, or of a plugin, and return its exit code."""
    name = next((argument for argument in arguments if not argument.startswith("-")), None)
    if name not in BUILT_IN:
        for _ in load_plugins(options.without_plugins(arguments)).ask("lpz_commands", app=app):
            pass  # each adds its commands to `app`
    command = typer.main.get_command(app)
    for found in vars(command).get("commands", {}).values():
        if found.name in BUILT_IN:
            _keep_stdout(found)
    try:
        command.main(args=list(arguments), prog_name="lpz")
    except SystemExit as done:
        sys.stdout.flush()
        return done.code if isinstance(done.code, int) else 0
    return 0


_until_the_end = ExitStack()


def _keep_stdout(command: Any) -> None:
    """Let a command, and those in its group, print only results on standard output, and exit only by an error."""
    for inner in vars(command).get("commands", {}).values():
        _keep_stdout(inner)
    if command.callback is not None:
        command.callback = _kept(command.callback)


def _kept(callback: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(callback)
    def quiet(*arguments: Any, **options: Any) -> None:
        if entry.running():  # what is printed while the process ends is no result either
            _until_the_end.enter_context(stdout_kept())
        with stdout_kept(), Survived():
            callback(*arguments, **options)

    return quiet


@contextmanager
def _turned_off(plugins: Sequence[str]) -> Iterator[None]:
    """Turn plugins off wherever they may be loaded, in workers too."""
    before = os.environ.get(DISABLE_VARIABLE)
    if plugins:
        os.environ[DISABLE_VARIABLE] = ",".join([*([before] if before else []), *plugins])
    try:
        yield
    finally:
        if before is not None:
            os.environ[DISABLE_VARIABLE] = before
        elif plugins:
            os.environ.pop(DISABLE_VARIABLE, None)


main = entry.main
