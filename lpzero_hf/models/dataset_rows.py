"""Reads one column of a dataset of the Hub or of a local folder, row by row, with the library `datasets`.

No code of a dataset ever runs: `datasets` from version 4 on has no loading scripts, and what would be one is refused.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lpzero_hf.errors import LpzError, MinibatchError, UsageError, did_you_mean, one_line
from lpzero_hf.models.file_rows import Value, column_of, no_column, no_text, suffixes
from lpzero_hf.spaces.hub_id import possible_hub_id

OWN = (".parquet", ".jsonl", ".ndjson")  # files in a folder that are read without `datasets`
LOUD = 50  # CRITICAL in `logging`
TIMEOUT = 10  # seconds


def dataset_column(name: str, config: str | None, split: str, column: str) -> Iterator[Value]:
    """The values of a column of a dataset, with their places, in the dataset's order.

    A dataset of the Hub, or of a folder of files, is streamed; one that `save_to_disk` has written is mapped.

    Args:
        name: a folder, or an id of the Hub.
        config: the configuration, for a dataset that has several.
        split: its name.
        column: its name.

    Raises:
        UsageError: the dataset, the configuration, the split or the column is unknown, or the column holds no text.
        MinibatchError: the library `datasets` is missing, the Hub cannot be reached, or the data cannot be read.
    """
    if importlib.util.find_spec("datasets") is None:
        raise MinibatchError(f"dataset '{name}' needs datasets; install it with `pip install 'lpzero-hf[datasets]'`")
    with _quiet():
        try:
            splits = _splits(name, config)
            if split not in splits:
                there = ", ".join(map(str, splits))
                raise UsageError(
                    f"dataset '{name}' has no split '{split}'{did_you_mean(split, map(str, splits))}; there are {there}"
                )
            yield from _values(splits[split], name, column)
        except (LpzError, GeneratorExit):
            raise
        except Exception as error:  # of `datasets`, pyarrow, pandas, fsspec, and of the HTTP library
            raise MinibatchError(
                f"dataset '{name}' cannot be read ({one_line(error)}); check its files, or write it anew with "
                "save_to_disk"
            ) from error


def _splits(name: str, config: str | None) -> Mapping[str, Any]:
    import datasets

    folder = Path(name)
    if folder.suffix == ".py" or (folder / f"{folder.resolve().name}.py").exists():
        raise UsageError(f"dataset '{name}' is a script, and no script is run; save its data as Parquet or JSON Lines")
    if folder.is_file():
        raise UsageError(
            f"'{name}' is a file without columns; give it as `text=`, or a folder or Hub id as `text=DatasetText`"
        )
    if folder.is_dir():
        saved = any((folder / marker).exists() for marker in ("dataset_dict.json", "state.json"))
        if saved and config is not None:
            raise UsageError(f"dataset '{name}' was saved without configurations; leave out `config=`")
        if saved:
            found = datasets.load_from_disk(str(folder))
            return found if isinstance(found, Mapping) else {str(found.split or "train"): found}
        return _streamed(str(folder.resolve()), name, config)
    if importlib.util.find_spec(f"datasets.packaged_modules.{name}") if name.isidentifier() else False:
        raise UsageError(f"'{name}' is a format, not a dataset; give a folder, or the id of a dataset of the Hub")
    _check_on_hub(name)
    return _streamed(name, name, config)


def _streamed(source: str, name: str, config: str | None) -> Mapping[str, Any]:
    import datasets
    from datasets.data_files import EmptyDatasetError
    from datasets.exceptions import DatasetNotFoundError

    try:
        builder = datasets.load_dataset_builder(source, config)
        files = {str(split): [*map(Path, some)] for split, some in (builder.config.data_files or {}).items()}
        if files and all(suffixes(file)[0] in OWN and file.is_file() for some in files.values() for file in some):
            return files  # streams of `datasets` read whole row groups, and do not know the number of a bad line
        found: Mapping[str, Any] = builder.as_streaming_dataset()
        return found
    except EmptyDatasetError as error:
        raise UsageError(f"dataset '{name}' has no data files; give a folder of Parquet or JSON Lines") from error
    except DatasetNotFoundError as error:
        raise _unknown(name, one_line(error)) from error
    except ConnectionError as error:
        raise _unreachable(name, one_line(error)) from error
    except RuntimeError as error:
        if "script" not in str(error):
            raise
        raise UsageError(
            f"dataset '{name}' is a script, and no script is run; use a copy of it in Parquet, which the Hub may have "
            "as branch refs/convert/parquet"
        ) from error
    except ValueError as error:  # of configurations alone; others are classes of their own
        if "onfig" not in str(error):
            raise
        reason = one_line(error).removeprefix("ValueError: ")
        raise UsageError(f"dataset '{name}': {reason}; choose one with `config=`") from error


def _check_on_hub(name: str) -> None:
    """Say at once that there is no such dataset or no network, of which `datasets` tries to make sure six times."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    if not possible_hub_id(name):
        raise _unknown(name, "no possible Hub id")
    try:
        HfApi().dataset_info(name, timeout=TIMEOUT)
    except OfflineModeIsEnabled:
        return  # then a copy in the cache is used
    except GatedRepoError as error:
        raise MinibatchError(f"dataset '{name}' is gated; ask for access on its Hub page and log in") from error
    except RepositoryNotFoundError as error:
        raise _unknown(name, "not on the Hub; if it is private, log in with `hf auth login`") from error
    except HfHubHTTPError as error:
        raise MinibatchError(f"the Hub refused dataset '{name}': {one_line(error)}; try again later") from error
    except Exception as error:  # no network: the HTTP library has many errors for it
        raise _unreachable(name, one_line(error)) from error


def _unknown(name: str, reason: str) -> UsageError:
    return UsageError(
        f"unknown dataset '{name}' ({reason}); give a folder of Parquet or JSON Lines, one that save_to_disk has "
        "written, or the id of a dataset of the Hub"
    )


def _unreachable(name: str, reason: str) -> MinibatchError:
    remedy = (
        "unset HF_HUB_OFFLINE, under which only a copy in the cache of `datasets` is used"
        if "Offline" in reason
        else "set HF_HUB_OFFLINE=1 to use the copy in the cache of `datasets`"
    )
    return MinibatchError(
        f"no folder '{name}' here, and the Hub cannot be reached ({reason}); give a local folder, or {remedy}"
    )


def _values(rows: Any, name: str, column: str) -> Iterator[Value]:
    """The column of a `Dataset`, of an `IterableDataset`, or of the files of one."""
    if isinstance(rows, list):
        for file in rows:
            yield from column_of(file, column)
        return
    there = rows.column_names
    if there is None:  # unknown until a row is read
        there = list(next(iter(rows), {}))
    if column not in there:
        raise no_column(column, name, there)
    kind = getattr((rows.features or {}).get(column), "dtype", None)
    if rows.features and kind not in ("string", "large_string"):
        raise no_text(f"column '{column}' of dataset '{name}'", str(kind or rows.features[column]))
    selected: Iterable[Mapping[str, Any]] = rows.select_columns([column])  # images and sounds are not decoded
    for number, row in enumerate(selected, start=1):
        yield f"row {number} of dataset '{name}'", row[column]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the bars and the log of `datasets` from standard error: what goes wrong is an error of ours."""
    import datasets

    bars, before = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(LOUD)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(before)
        if not bars:
            datasets.enable_progress_bars()
