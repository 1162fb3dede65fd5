"""Refuses an option that was given and that nothing reads beside the others: it would be passed over in silence."""

from __future__ import annotations

from collections.abc import Iterable

import typer

from lpzero_hf.errors import UsageError

NOT_GIVEN = ("DEFAULT", "DEFAULT_MAP")


def given(context: typer.Context, name: str) -> bool:
    """Whether the command line gives a parameter, be it with its default value."""
    source = context.get_parameter_source(name)
    return source is not None and source.name not in NOT_GIVEN


def option(context: typer.Context, name: str) -> str:
    """How a parameter stands on the command line: its long option, or its name as an argument."""
    for parameter in context.command.params:
        if parameter.name == name:
            return next((one for one in parameter.opts if one.startswith("--")), (parameter.opts or [name])[0])
    return name


def refuse_unread(context: typer.Context, names: Iterable[str], unread: object, why: str) -> None:
    """Raise `UsageError` if an option was given that has no effect.

    Args:
        context: of the command.
        names: of its parameters that have none.
        unread: whether this is so.
        why: with which option, and what to do instead; the end of the message.
    """
    for name in names if unread else ():
        if given(context, name):
            raise UsageError(f"{option(context, name)} has no effect {why}")
