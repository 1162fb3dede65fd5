"""The words of commands."""


def overriding(words: tuple[str, ...], *options: str) -> tuple[str, ...]:
    """A command with some of its options in the place of those of the same name; each has one value.

    Example:
        >>> overriding(("nas", "--trials", "2", "--json"), "--trials", "4")
        ('nas', '--json', '--trials', '4')
    """
    names, kept, skip = {word for word in options if word.startswith("-")}, [], False
    for word in words:
        if word in names:
            skip = True
        elif skip:
            skip = False
        else:
            kept.append(word)
    return (*kept, *options)
