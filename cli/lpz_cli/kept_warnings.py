"""Keeps what is warned of a result, so that its JSON and its CSV say it too."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lpzero_hf.errors import ComparisonWarning, MinibatchWarning, ModelWarning, TableWarning

OF_RESULTS = (ComparisonWarning, MinibatchWarning, ModelWarning, TableWarning)


class KeptWarnings(list[str]):
    """Each warning of a result, once.

    Args:
        later: kinds that standard error is not told at once, because the result shows them.

    Attributes:
        untold: the warnings of these kinds.
    """

    def __init__(self, later: tuple[type[Warning], ...] = ()) -> None:
        super().__init__()
        self.later, self.untold = later, list[str]()

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Keep what is warned inside; may be entered for each part of the work."""
        with warnings.catch_warnings():
            for category in OF_RESULTS:
                warnings.simplefilter("always", category)
            show = warnings.showwarning

            def keep(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
                text = str(message)
                if not issubclass(category, OF_RESULTS):
                    show(message, category, *rest, **more)
                elif text not in self:
                    self.append(text)
                    if issubclass(category, self.later):
                        self.untold.append(text)
                    else:
                        show(message, category, *rest, **more)

            warnings.showwarning = keep
            yield
