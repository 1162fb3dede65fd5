"""Says what a name or a file is, where it is given in place of something else, and what takes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from lpzero_hf.errors import UsageError
from lpzero_hf.plugins import PluginRegistry

Role = Literal["model", "space", "benchmark", "proxy", "cost", "run"]
HOOKS = {
    "lpz_models": "model", "lpz_spaces": "space", "lpz_benchmarks": "benchmark", "lpz_proxies": "proxy",
    "lpz_costs": "cost", "lpz_operations": "operation",
}  # fmt: skip
EXPECTED: dict[Role, tuple[str, str]] = {  # what a folder lacks, and what to give instead
    "model": ("has no config.json", "give a folder saved with save_pretrained"),
    "space": ("is no space", "name a file (YAML or JSON) that describes one, `lpz zoo new-space` starts one"),
    "benchmark": ("has no benchmark.json", "give a folder that `lpz bench train` made, or the file of a table"),
    "proxy": ("is no proxy", "name the file that `lpz export` made, or hub:USER/REPO"),
    "run": ("has no plan.json and result.json", "give a folder that `lpz search ... --out FOLDER` made"),
}
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".npz")
TABLES = (
    ".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".jsonlines", ".parquet", ".pq", ".xlsx", ".xls", ".ods", ".orc",
    ".arrow", ".feather",
)  # fmt: skip
SUFFIXES = {
    "table": TABLES, "weights": WEIGHTS, "space": (".yaml", ".yml"), "text": (".txt", ".md"), "code": (".py", ".ipynb"),
}  # fmt: skip
PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")
FORMATS = {
    "lpzero-hf proxy": "artifact", "lpzero-hf benchmark": "benchmark", "lpzero-hf search": "run",
    "lpzero-hf space": "space", "lpzero-hf nas": "nas", "lpzero-hf front": "nas",
}  # fmt: skip
KEYS: tuple[tuple[str, set[str]], ...] = (  # what a JSON object is that has them all; the first that fits
    ("model", {"model_type"}),
    ("model", {"auto_map"}),
    ("space", {"choices"}),
    ("record", {"models", "settings"}),
    ("grades", {"benchmark", "grades"}),
    ("run", {"plan", "splits"}),
    ("result", {"space", "ranking"}),
    ("result", {"models", "pairs"}),
    ("result", {"models", "deployment"}),
    ("result", {"benchmarks", "rows", "searches"}),
    *(("beside", {key}) for key in ("weight_map", "tokenizer_class", "added_tokens", "peft_type", "log_history")),
)
BESIDE = ("generation_config.json", "special_tokens_map.json", "vocab.json", "preprocessor_config.json")
LARGEST = 2**22  # bytes of a JSON document that is looked into
WHAT: dict[str, tuple[str, str]] = {  # what it is, and what to do with it
    "model": ("a model", "`lpz score {0}` scores it"),
    "space": ("a space of architectures", "`lpz rank {0}` ranks them, and {0}:ID is one of them"),
    "benchmark": ("a benchmark", "`lpz bench eval {0}` grades proxies on it"),
    "proxy": ("a proxy", "`lpz score MODEL --proxy {0}` scores with it"),
    "artifact": ("an exported proxy", "`lpz score MODEL --proxy {0}` scores with it"),
    "cost": ("a cost", "`lpz cost MODEL --cost {0}` shows it"),
    "operation": (
        "an operation in expressions",
        "`lpz score MODEL --proxy 'sum(sum(product({0}(W), G)))'` scores with one that has it",
    ),
    "run": ("what a search has left", "`lpz report` shows its folder, `lpz export` makes a proxy of it"),
    "record": ("the JSON of a score", "`lpz score --from {0}` repeats it"),
    "grades": ("the JSON of `lpz bench eval`", "`lpz report {0}` shows it"),
    "result": ("a result that `lpz` has printed", "name what it is of"),
    "nas": (
        "what `lpz nas` has left",
        "result.json holds all of it; what it found are models, each in a folder inside, front/000 or winner",
    ),
    "beside": ("a file that stands beside a config.json", "give that config.json, or the folder of both"),
    "dataset": ("a dataset", "`lpz score MODEL --dataset {0}` scores models on it"),
    "table": (
        "a table",
        "`lpz bench eval {0} --metric COLUMN` grades proxies on trained models, `text={0}` reads text",
    ),
    "weights": ("a file of weights", "give the folder that has it beside a config.json"),
    "unconfigured": (
        "a folder of weights without a config.json",
        "save it with save_pretrained, or add the config.json",
    ),
    "checkpoints": ("a folder of checkpoints", "name one of them, such as {0}/{1}"),
    "adapter": ("a folder of an adapter", "merge it into its model, and give the folder of that"),
    "text": ("a text", "`lpz score MODEL --text {0}` scores models on it"),
    "code": ("code", "a model is a name, a folder or a config.json; a class of yours is scored from Python"),
}
SAME = {
    "proxy": {"artifact"}, "space": {"space"}, "model": {"model"}, "benchmark": {"benchmark", "table"},
    "run": {"run", "grades"}, "cost": set[str](),
}  # fmt: skip
ROLES: dict[Role, str] = {"run": "search or grades of proxies"}  # where the name of a role says too little


def refuse_misplaced(name: str | Path, wanted: Role, plugins: PluginRegistry) -> None:
    """Raise `UsageError` if a name or path is something else than is wanted, and say what takes it; or for a folder
    without anything known, and say what belongs there.

    Args:
        name: a path, or of a thing that is installed, where there is no such path; unknown ones pass.
        wanted: what it should be.
        plugins: where names are looked up.
    """
    here = _on_disk(Path(name))
    kinds = _installed(str(name), plugins) if here is None else []
    found, more = here or (kinds[0] if kinds else "", "")
    if here is not None and not found and wanted in EXPECTED and Path(name).expanduser().is_dir():
        lacks, instead = EXPECTED[wanted]
        empty = not any(Path(name).expanduser().iterdir())
        raise UsageError(f"the folder '{name}' {'is empty' if empty else lacks}; {instead}")
    if not found or wanted in kinds or found in SAME[wanted]:
        return
    what, then = WHAT[found]
    raise UsageError(f"'{name}' is {what}, no {ROLES.get(wanted, wanted)}; {then.format(name, more)}")


def kind_on_disk(path: Path) -> str:
    """What a file or folder is, one of `WHAT`; "" if there is none, or nothing that is known."""
    return (_on_disk(path) or ("", ""))[0]


def _installed(name: str, plugins: PluginRegistry) -> list[str]:
    return [
        kind
        for hook, kind in HOOKS.items()
        if any(
            name in map(_name, offered or ()) for _, offered in plugins.ask(hook) if isinstance(offered, list | tuple)
        )
    ]


def _name(item: Any) -> str:
    return str(getattr(item, "name", getattr(item, "__name__", "")))


def _on_disk(path: Path) -> tuple[str, str] | None:
    """What a file or folder is, or "", and a name in it; None if there is none."""
    try:
        path = path.expanduser()
        if path.is_dir():
            return _folder(path)
        return (_file(path), "") if path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # no possible path, or not to be read
        return None


def _folder(path: Path) -> tuple[str, str]:
    names = sorted(file.name for file in path.iterdir())
    tests: list[tuple[str, Callable[[str], bool]]] = [
        ("model", lambda name: name == "config.json"),
        ("benchmark", lambda name: name == "benchmark.json"),
        ("run", lambda name: name == "plan.json"),
        ("nas", lambda name: name == "nas.json"),
        ("dataset", lambda name: name in ("dataset_dict.json", "dataset_info.json")),
        ("adapter", lambda name: name == "adapter_config.json"),
        ("unconfigured", lambda name: name.endswith(WEIGHTS)),
        ("checkpoints", lambda name: name.startswith("checkpoint-") and (path / name).is_dir()),
    ]
    for kind, test in tests:
        if found := next(filter(test, names), ""):
            return kind, found
    return "", ""


def _file(path: Path) -> str:
    packed = path.suffix.lower() in PACKED
    suffix = Path(path.stem).suffix.lower() if packed else path.suffix.lower()
    if kind := next((kind for kind, suffixes in SUFFIXES.items() if suffix in suffixes), ""):
        return kind
    if packed or suffix != ".json" or path.stat().st_size > LARGEST:
        return ""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return ""
    if isinstance(document, list):  # of rows; another list is no table either
        return "table" if document and all(isinstance(row, dict) for row in document) else ""
    if not isinstance(document, dict):
        return ""
    if kind := FORMATS.get(str(document.get("format")), ""):
        return kind
    if path.name in BESIDE:  # words of a vocabulary may be any of the keys
        return "beside"
    kind = next((kind for kind, keys in KEYS if keys <= document.keys()), "")
    return "" if (kind, path.name) == ("beside", "config.json") else kind
