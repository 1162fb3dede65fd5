"""Refuses an option that is given twice with different values where a command takes one: the first would be lost."""

from __future__ import annotations

from typing import Any

from lpzero_hf.errors import UsageError


def refuse_repeated(command: Any) -> None:
    """Let a command, and those in its group, raise `UsageError` for such an option.

    Args:
        command: of typer; changed in place.
    """
    for inner in vars(command).get("commands", {}).values():
        refuse_repeated(inner)
    make = command.make_parser

    def made(context: Any) -> Any:
        parser = make(context)
        if context.resilient_parsing:  # the shell completes what may be wrong yet
            return parser
        for option in {id(one): one for one in [*parser._long_opt.values(), *parser._short_opt.values()]}.values():
            if option.action in ("store", "store_const"):
                option.process = _Once(option)
        return parser

    command.make_parser = made


class _Once:
    """What an option of a parser does with each value, for one that may have only one."""

    def __init__(self, option: Any) -> None:
        self.option, self.process = option, option.process

    def __call__(self, value: Any, state: Any) -> None:
        option = self.option
        new = value if option.action == "store" else option.const
        if option.dest in state.opts and state.opts[option.dest] != new:
            before = state.opts[option.dest]
            names = [*option.obj.opts, *option.obj.secondary_opts]
            name = next((one for one in names if one.startswith("--")), names[0])
            both = " and ".join(names[-2:]) if option.action == "store_const" else f"{name} {before} and {name} {new}"
            raise UsageError(f"{both} are two answers to one question; give one")
        self.process(value, state)
