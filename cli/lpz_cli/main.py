"""The `lpz` application: its commands, and how errors and warnings are shown."""

from __future__ import annotations

import functools
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Annotated, Any, get_args, get_origin, get_type_hints

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
from lpz_cli.repeated import refuse_repeated
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
    UsageError,
    one_line,
    printable,
)
from lpzero_hf.foreign import Survived, stdout_kept
from lpzero_hf.plugins import DISABLE_VARIABLE, load_plugins

SCORING = "Score models: lpz score gpt2-variant bert-mini"
CHOOSING = "Choose an architecture: lpz rank tiny-lm --proxy lpzero-any --n 100"
GRADING = "Grade proxies on trained models: lpz bench eval tiny-lm --proxy synflow"
SEARCHING = "Find and share a proxy: lpz search tiny-lm --out run && lpz export run"
LISTING = "What there is: lpz zoo, lpz proxies snip, lpz plugin new my-proxy"

app = typer.Typer(
    name="lpz",
    help="Rank language-model architectures without training them.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS: dict[str, tuple[Any, ...]] = {
    SCORING: (score, compare, cost),
    CHOOSING: (rank, nas),
    GRADING: (bench_app,),
    SEARCHING: (search, export, report, push, pull),
    LISTING: (zoo.zoo_app, listing.proxies, listing.plugins, plugin_app),
}
for panel, commands in COMMANDS.items():
    for command in commands:
        if isinstance(command, typer.Typer):
            app.add_typer(command, rich_help_panel=panel)
        else:
            app.command(rich_help_panel=panel)(command)
bench_app.command()(train)
bench_app.command()(transfer)
bench_app.command()(consensus)
BUILT_IN = {one.callback.__name__ for one in app.registered_commands if one.callback}
BUILT_IN |= {"zoo", "bench", "plugin"}


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
        with _turned_off(options.without_plugins(arguments)), _logged(debug):
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


@contextmanager
def _logged(debug: bool) -> Iterator[None]:
    """Show on standard error what this library logs: the tracebacks of errors that it reports in one line."""

    class Printable(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return printable(super().format(record))

    logger, handler = logging.getLogger("lpzero_hf"), logging.StreamHandler()
    handler.setFormatter(Printable("%(message)s"))
    before = logger.level
    if debug:
        logger.setLevel(logging.DEBUG)
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)


def _command(arguments: Sequence[str]) -> int:
    """Run a command of `lpz`, or of a plugin, and return its exit code."""
    name = next((argument for argument in arguments if not argument.startswith("-")), None)
    if name not in BUILT_IN:
        for _ in load_plugins(options.without_plugins(arguments)).ask("lpz_commands", app=app):
            pass  # each adds its commands to `app`
    if name is not None:
        limit_integers(app)
    command = typer.main.get_command(app)
    offered = vars(command).get("commands", {})
    for found in offered.values():
        if found.name in BUILT_IN:
            refuse_repeated(found)
            _keep_stdout(found)
    others = name in offered and name not in BUILT_IN  # commands of plugins do as they like
    try:
        code = command.main(args=list(arguments), prog_name="lpz", standalone_mode=others)
    except SystemExit as done:
        sys.stdout.flush()
        code = done.code
    except Exception as error:
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if "NoArgsIsHelpError" in kinds:
            command.main(args=[*arguments, "--help"], prog_name="lpz", standalone_mode=False)
            return 2
        if "ClickException" not in kinds:
            raise
        raise UsageError(error.format_message()) from error  # type: ignore[attr-defined]  # which every such error has
    sys.stdout.flush()
    if entry.running() and name in BUILT_IN:
        _until_the_end.enter_context(stdout_kept())
    return code if isinstance(code, int) else 0


def limit_integers(commands: typer.Typer) -> None:
    """Give every whole number among the options of commands an upper end, where none is declared."""
    for group in commands.registered_groups:
        if group.typer_instance is not None:
            limit_integers(group.typer_instance)
    for one in commands.registered_commands:
        if one.callback is None:
            continue
        hints = get_type_hints(one.callback, include_extras=True)
        one.callback.__annotations__ = hints  # as they are, not as text that is read anew
        for hint in hints.values():
            plain, *informed = get_args(hint) if get_origin(hint) is Annotated else (hint,)
            kinds = {kind for part in (plain, *get_args(plain)) for kind in (part, *get_args(part))}
            for info in informed:
                if int in kinds and info.parser is None and info.max is None:
                    info.max = options.LARGEST_INTEGER


_until_the_end = ExitStack()


def _keep_stdout(command: Any) -> None:
    """Let a command, and those in its group, print only results on standard output, and exit only by an error."""
    for inner in vars(command).get("commands", {}).values():
        _keep_stdout(inner)
    if command.callback is not None:
        command.callback = _kept(command.callback, last=not vars(command).get("commands"))


def _kept(callback: Callable[..., None], last: bool) -> Callable[..., None]:
    """`callback`; unless it is the `last` of a command line, help may be printed after it."""

    @functools.wraps(callback)
    def quiet(*arguments: Any, **options: Any) -> None:
        if entry.running() and last:  # what is printed while the process ends is no result either
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
