"""The benchmarks of the zoo: four read from the files that their authors published, one made by this project."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lpz_zoo.remote_files import RemoteFiles
from lpz_zoo.spaces import FLEXIBERT, GEMSTONES, LITE, SPACES, TINY_LM
from lpzero_hf.benchmarks.benchmark import Benchmark, Trained, first_seed, read_made
from lpzero_hf.benchmarks.table_files import BadRows, RowTable
from lpzero_hf.errors import LpzError, one_line
from lpzero_hf.files import read_json, read_text, reading
from lpzero_hf.spaces.base import Architecture, Row, SearchSpace

SPACE = {space.name: space for space in SPACES}
REGISTRIES = Path(__file__).parent / "data"
KEY, ARCHITECTURE = "key", "architecture"  # columns of a row
SECONDS = "train_elapsed"  # the same of the GPT-2 logs: what a training took, in seconds
LPZERO = "pprp/LPZero/9faa34d2c63c6b276a0082442e7eb0aa70be2526"

FLEXIBERT_FILES = RemoteFiles(
    benchmark="flexibert",
    folder="nas-bench-bert",
    source="aaronserianni/training-free-nas/2d76e01b9586cad7340e8268dadba3056efd070b",
    strip="data/",
    registry=REGISTRIES / "nas-bench-bert.txt",
    size=453_164,
)
GPT2_FILES = RemoteFiles(
    benchmark="gpt2-wt103",
    folder="lpzero",
    source=LPZERO,
    registry=REGISTRIES / "lpzero.txt",
    size=189_370,
)
LM1B_FILES = RemoteFiles(
    benchmark="gpt2-lm1b",
    folder="lpzero",
    source=LPZERO,
    registry=REGISTRIES / "lpzero-lm1b.txt",
    size=192_187,
)
GEMSTONES_FILES = RemoteFiles(
    benchmark="gemstones",
    folder="gemstones",
    source="mcleish7/gemstone-scaling-laws/5f420478f6057b0cbb4d13405fb10ca64675bccb",
    strip="wandb_dfs/",
    registry=REGISTRIES / "gemstones.txt",
    size=156_808,
)

OPERATIONS = {
    ("SA", "SDP"): "sdp",
    ("SA", "WMA"): "wma",
    ("LT", "DFT"): "dft",
    ("LT", "DCT"): "dct",
    ("DSC", 5): "conv5",
    ("DSC", 9): "conv9",
}

GPT2_CONSTANTS = {  # settings that are the same in all models of both texts; our models assume them
    "n_token": 50264,
    "adaptive": True,
    "tie_weight": True,
    "d_head": -1,
    "attn_type": 0,
    "pre_lnorm": False,
    "primer_conv": False,
    "primer_square": False,
    "dropout": 0.1,
    "dropatt": 0.0,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class GPT2Logs:
    """The logs of 200 GPT-2 that were trained on one text.

    Args:
        space: of the architectures.
        files: their files.
        logs: the folder of the logs in that of the files.
        metric: which perplexity of `ppl_summary.yaml` is the trained performance.
        shared: the settings that the shared choices of the space are, in order.
        constants: settings that are the same in all these models; our model of the space assumes them.
    """

    space: str
    files: RemoteFiles
    logs: str
    metric: str
    shared: tuple[str, ...]
    constants: Mapping[str, Any]


WT103 = GPT2Logs(
    space="gpt2",
    files=GPT2_FILES,
    logs="saved_logs/random_GPT2_wt103",
    metric="valid_ppl",
    shared=("d_model", "d_embed", "div_val"),
    constants=GPT2_CONSTANTS
    | {"tgt_len": 192, "cutoffs": [19997, 39997, 199997, 50264], "tie_projs": [False, True, True, True]},
)
LM1B = GPT2Logs(
    space="gpt2-lm1b",
    files=LM1B_FILES,
    logs="saved_logs/random_GPT2_lm1b",
    metric="test_ppl",
    shared=("d_model", "div_val"),
    constants=GPT2_CONSTANTS
    | {"tgt_len": 32, "cutoffs": [59997, 99997, 639997, 50264], "tie_projs": [False] * 4, "d_embed": -1},
)


def flexibert_entries(folder: Path) -> list[Trained]:
    """The 500 FlexiBERT architectures with their GLUE scores, in the file's order.

    Nine architectures were drawn and trained twice; both trainings are kept, each under its own key.

    Args:
        folder: holds `BERT_benchmark.json`.

    Raises:
        LpzError: it is missing, or holds something else: a training that was not completed, for example.
    """
    path = folder / "BERT_benchmark.json"
    records = read_json(path, _remedy(FLEXIBERT_FILES))
    with _reading(path, FLEXIBERT_FILES):
        return [_flexibert_entry(record) for record in records]


def _flexibert_entry(record: Mapping[str, Any]) -> Trained:
    if record["completed"] is not True or record["is_running"] is not False:
        raise ValueError(f"the training of model {record['id']} was not completed")
    overrides = record["hparams"]["model_hparam_overrides"]
    layers: list[Row] = [
        (
            OPERATIONS[layer["operation_type"], layer["operation_parameter"]],
            layer["num_operation_heads"],
            layer["feed_forward_dimension"],
            layer["num_feed_forward"],
        )
        for layer in overrides["nas_config"]["encoder_layers"]
    ]
    architecture = SPACE["flexibert"].check(Architecture((overrides["hidden_size"],), tuple(layers)))
    return Trained(str(record["id"]), architecture, float(record["scores"]["glue"]))


def gpt2_rows(folder: Path, which: GPT2Logs = WT103) -> list[dict[str, Any]]:
    """A row for each of 200 GPT-2 with its key, architecture, perplexity and the seconds that its training took, in the
    order of `ppl_summary.yaml`.

    On WikiText-103 the perplexity is that on the validation text: with it the numbers of non-embedding parameters rank
    the models with the published Spearman's rho of 0.9670 (with that on the test text it is 0.9669). On LM1B the two
    are the same number in all 200 rows.

    Args:
        folder: holds `saved_logs`.
        which: the text that they were trained on.

    Raises:
        LpzError: a file is missing, or holds something else.
    """
    summary = folder / which.logs / "ppl_summary.yaml"
    perplexities = _read_yaml(summary, which.files)
    with _reading(summary, which.files):
        measured = {
            key: {name: float(row[name]) for name in (which.metric, SECONDS) if name == which.metric or name in row}
            for key, row in perplexities.items()
        }
    rows = []
    for key, columns in measured.items():
        path = folder / which.logs / key.replace("_j", "/j") / "model_config.yaml"
        config = _read_yaml(path, which.files)
        with _reading(path, which.files):
            rows.append({KEY: key, ARCHITECTURE: _gpt2_architecture(config, which), **columns})
    return rows


def _gpt2_architecture(config: Mapping[str, Any], which: GPT2Logs) -> Architecture:
    for name, value in which.constants.items():
        if config[name] != value:
            raise ValueError(f"{name} is {config[name]}, but {value} in the benchmark")
    layers: tuple[Row, ...] = tuple(zip(config["n_head"], config["d_inner"], strict=True))
    if len(layers) != config["n_layer"]:
        raise ValueError(f"n_layer is {config['n_layer']}, but {len(layers)} layers are given")
    shared = tuple(config[name] for name in which.shared)
    return SPACE[which.space].check(Architecture(shared, layers))


def gemstones_rows(folder: Path, tokens: float = 100e9) -> list[dict[str, Any]]:
    """A row for each of 22 Gemstones with its key, architecture and loss after `tokens` tokens, the smallest first.

    Args:
        folder: holds the file of losses.
        tokens: the evaluation nearest to this number is taken; there is one every ten billion up to 350 billion.

    Raises:
        LpzError: the file is missing or holds something else, or a run has no evaluation within 1% of `tokens`.
    """
    path = folder / "wandb_df_for_fitting_hot_100b+.jsonl"
    text = read_text(path, _remedy(GEMSTONES_FILES))
    with _reading(path, GEMSTONES_FILES):
        runs: dict[str, list[dict[str, Any]]] = {}
        for line in text.splitlines():
            row = json.loads(line)
            runs.setdefault(row["run_name"], []).append(row)
        found = []
        for name, rows in sorted(runs.items(), key=lambda run: (run[1][0]["params_active_precise"], run[0])):
            row = min(rows, key=lambda row: abs(row["tokens"] - tokens))
            if abs(row["tokens"] - tokens) > tokens / 100:
                raise ValueError(f"{name} was not evaluated after {tokens:.4g} tokens")
            architecture = SPACE["gemstones"].check(Architecture((row["width"],), ((),) * row["depth"]))
            kept = {column: row[column] for column in ("tokens", "params_active_precise")}
            loss = float(row["final_loss"])
            key = f"{row['width']}x{row['depth']}"
            found.append({KEY: key, ARCHITECTURE: architecture, "final_loss": loss, **kept})
    return found


def _read_yaml(path: Path, files: RemoteFiles) -> Any:
    """The YAML document in a file. Raises `LpzError` if it is missing or no YAML."""
    import yaml  # type: ignore[import-untyped]  # it comes without types

    text = read_text(path, _remedy(files))
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise LpzError(f"'{path}' is not readable YAML ({one_line(error)}); {_remedy(files)}") from error


def _reading(path: Path, files: RemoteFiles) -> AbstractContextManager[None]:
    """Turn whatever unexpected content raises into an error that names the file."""
    return reading(f"'{path}'", _remedy(files), LpzError)


def _remedy(files: RemoteFiles) -> str:
    return f"delete it and run `lpz bench get {files.benchmark}`"


def _read_flexibert() -> Sequence[Trained]:
    return flexibert_entries(FLEXIBERT_FILES.path())


def _table(rows: Callable[[Path], list[dict[str, Any]]], files: RemoteFiles, column: str, **facts: Any) -> Benchmark:
    """A benchmark whose rows are read as those of a table, when they are first needed."""

    def table() -> Benchmark:
        from lpzero_hf.benchmarks.table import benchmark_from_rows

        folder = files.path()
        read = rows(folder)
        source = BadRows(f"'{folder}'")
        whole = RowTable(tuple(read[0]), read, range(1, len(read) + 1), source, folder)
        return benchmark_from_rows(
            lambda: whole, column, name=files.benchmark, architecture=ARCHITECTURE, key_column=KEY, space=facts["space"]
        )

    def told() -> Mapping[str, Any]:
        made = table().facts
        return {} if made is None else made()

    return Benchmark(
        name=files.benchmark, read=lambda: table().read(), facts=told, fetch=files.fetch, present=files.here, **facts
    )


def _own(name: str, space: SearchSpace, **facts: Any) -> Benchmark:
    """A benchmark that this project has trained, from the `benchmark.json` of `lpz bench train`."""
    file = REGISTRIES / f"{name}.json"
    return Benchmark(
        name=name,
        space=space,
        metric="validation loss (nats per token)",
        larger_is_better=False,
        read=lambda: first_seed(read_made(file), space),
        present=file.is_file,
        seq_len=64,
        document=lambda: read_made(file),
        **facts,
    )


BENCHMARKS = [
    _own(
        "tiny-lm",
        TINY_LM,
        summary="128 small Llama decoders of four sizes, trained by this project on the entries of WordNet",
        citation="this project; the text is WordNet 3.0 (Miller 1995, Fellbaum 1998)",
        license="Apache-2.0; the text, which is not in it, has the licence of WordNet 3.0: any use, without fee",
        notes=(
            "Very small models, of 6,700 to 26,200 parameters outside embeddings, trained on 20 to 57 tokens for each "
            "parameter; those of one size are within 10% of one another, so that among them shape decides and not size"
        ),
    ),
    _own(
        "tiny-gpt2",
        SPACE["tiny-gpt2"],
        summary="128 small GPT-2 decoders, trained by this project on the King James Bible",
        citation=f"this project, after {LITE}",
        license="Apache-2.0",
        notes=(
            "Trained for 500 short steps, a quarter of a million tokens: the width of the word vectors decides most, "
            "deeper models are worse, and the number of parameters says nothing"
        ),
    ),
    Benchmark(
        name="flexibert",
        summary="500 FlexiBERT encoders, trained and evaluated on GLUE",
        space=SPACE["flexibert"],
        metric="GLUE score",
        larger_is_better=True,
        read=_read_flexibert,
        citation=FLEXIBERT,
        license="CC BY 4.0",
        batch_size=8,
        seq_len=64,
        fetch=FLEXIBERT_FILES.fetch,
        present=FLEXIBERT_FILES.here,
        notes=(
            "The GLUE scores follow hidden size, depth and the count of feed-forward layers, and are statistically "
            "independent of the operations, so what a proxy sees of those is noise here; nine architectures were "
            "trained twice and differ by 0.2 to 2.0 points"
        ),
    ),
    _table(
        partial(gpt2_rows, which=WT103),
        GPT2_FILES,
        WT103.metric,
        summary="200 GPT-2 decoders, trained on WikiText-103",
        space=SPACE["gpt2"],
        metric="WikiText-103 perplexity",
        larger_is_better=False,
        citation=f"{LITE}; published with Dong et al., LPZero, EMNLP Findings 2024, arXiv:2410.04808",
        license="CC BY 4.0",
        batch_size=8,
        seq_len=64,
        notes=(
            "Nearly all of the ranking is size: attention parameters alone have a rho of 0.98. One training each, so "
            "that its noise is unknown"
        ),
    ),
    _table(
        partial(gpt2_rows, which=LM1B),
        LM1B_FILES,
        LM1B.metric,
        summary="200 GPT-2 decoders, trained on the One Billion Word Benchmark",
        space=SPACE["gpt2-lm1b"],
        metric="LM1B perplexity",
        larger_is_better=False,
        citation=f"{LITE}; published with Dong et al., LPZero, EMNLP Findings 2024, arXiv:2410.04808",
        license="CC BY 4.0",
        batch_size=16,
        seq_len=32,
        notes=(
            "The perplexity is `test_ppl`, which equals `valid_ppl` in all 200 rows, so that only one text was "
            "evaluated. Nearly all of the ranking is size: attention parameters alone have a rho of 0.98. One "
            "training each, so that its noise is unknown. The published counts of attention parameters are those of a "
            "Transformer-XL, 5 d^2 + 2 d a layer, where these GPT-2 have 4 d^2 + 4 d; those of feed-forward layers "
            "are exact. The cutoffs of the adaptive softmax lie above the vocabulary, so that there is one cluster, "
            "and k decides only whether its word vectors are projected"
        ),
    ),
    _table(
        gemstones_rows,
        GEMSTONES_FILES,
        "final_loss",
        summary="22 Gemma-like decoders of 50M to 2B parameters, trained on Dolma",
        space=SPACE["gemstones"],
        metric="loss after 100 billion tokens (nats per token)",
        larger_is_better=False,
        citation=GEMSTONES,
        license="MIT",
        batch_size=4,
        seq_len=64,
        notes=(
            "Only 22 models, in clusters of about 50M, 100M, 500M, 1B and 2B parameters: overall the number of "
            "parameters has a rho of 0.97 with the loss, and within a cluster depth counts, not width. One training "
            "each, so that its noise is unknown. The file holds the loss every 10 billion tokens up to 350 billion; "
            "the learning rate is constant (hot), so that the loss is not that of a finished training"
        ),
    ),
]
