"""Groups of options: declared once as a dataclass, taken by a command as one parameter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command with every parameter that is a dataclass spelled out, for typer, as an option per field.

    A field is declared as an option of a command is: annotated, with a default.
    """
    hints = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in hints.items() if isinstance(kind, type) and is_dataclass(kind)}
    parameters: list[Parameter] = []
    for parameter in signature(command).parameters.values():
        kind = groups.get(parameter.name)
        options = get_type_hints(kind, include_extras=True) if kind else hints
        taken = [*signature(kind).parameters.values()] if kind else [parameter]
        parameters += [p.replace(annotation=options[p.name], kind=Parameter.KEYWORD_ONLY) for p in taken]

    @wraps(command)
    def spelled_out(**values: Any) -> None:
        made = {name: kind(**{f.name: values.pop(f.name) for f in fields(kind)}) for name, kind in groups.items()}
        command(**values, **made)

    spelled_out.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # where inspect and typer look
    spelled_out.__annotations__ = {p.name: p.annotation for p in parameters}
    return spelled_out
