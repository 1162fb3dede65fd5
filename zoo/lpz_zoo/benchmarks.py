"""The benchmarks of the zoo: two read from the files that their authors published, one made by this project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from lpz_zoo.remote_files import RemoteFiles
from lpz_zoo.spaces import FLEXIBERT, LITE, SPACES
from lpzero_hf.benchmarks.benchmark import Benchmark, Trained, first_seed, read_made
from lpzero_hf.errors import LpzError, one_line
from lpzero_hf.files import read_json, read_text, reading
from lpzero_hf.spaces.base import Architecture, Row

SPACE = {space.name: space for space in SPACES}
REGISTRIES = Path(__file__).parent / "data"
TINY = REGISTRIES / "tiny-gpt2.json"
LOGS = "saved_logs/random_GPT2_wt103"

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
    source="pprp/LPZero/9faa34d2c63c6b276a0082442e7eb0aa70be2526",
    registry=REGISTRIES / "lpzero.txt",
    size=189_370,
)

OPERATIONS = {
    ("SA", "SDP"): "sdp",
    ("SA", "WMA"): "wma",
    ("LT", "DFT"): "dft",
    ("LT", "DCT"): "dct",
    ("DSC", 5): "conv5",
    ("DSC", 9): "conv9",
}

GPT2_CONSTANTS = {  # settings that are the same in all 200 models; our model of the space assumes them
    "n_token": 50264,
    "tgt_len": 192,
    "adaptive": True,
    "cutoffs": [19997, 39997, 199997, 50264],
    "tie_weight": True,
    "tie_projs": [False, True, True, True],
    "d_head": -1,
    "attn_type": 0,
    "pre_lnorm": False,
    "primer_conv": False,
    "primer_square": False,
    "dropout": 0.1,
    "dropatt": 0.0,
}


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


def gpt2_entries(folder: Path) -> list[Trained]:
    """The 200 GPT-2 architectures with their perplexities, in the order of `ppl_summary.yaml`.

    The perplexity is that on the validation text: with it the numbers of non-embedding parameters rank the models
    with the published Spearman's rho of 0.9670 (with that on the test text it is 0.9669).

    Args:
        folder: holds `saved_logs`.

    Raises:
        LpzError: a file is missing, or holds something else.
    """
    summary = folder / LOGS / "ppl_summary.yaml"
    perplexities = _read_yaml(summary, GPT2_FILES)
    with _reading(summary, GPT2_FILES):
        qualities = {key: float(row["valid_ppl"]) for key, row in perplexities.items()}
    entries = []
    for key, quality in qualities.items():
        path = folder / LOGS / key.replace("_j", "/j") / "model_config.yaml"
        config = _read_yaml(path, GPT2_FILES)
        with _reading(path, GPT2_FILES):
            entries.append(Trained(key, _gpt2_architecture(config), quality))
    return entries


def _gpt2_architecture(config: Mapping[str, Any]) -> Architecture:
    for name, value in GPT2_CONSTANTS.items():
        if config[name] != value:
            raise ValueError(f"{name} is {config[name]}, but {value} in the benchmark")
    layers: tuple[Row, ...] = tuple(zip(config["n_head"], config["d_inner"], strict=True))
    if len(layers) != config["n_layer"]:
        raise ValueError(f"n_layer is {config['n_layer']}, but {len(layers)} layers are given")
    shared = (config["d_model"], config["d_embed"], config["div_val"])
    return SPACE["gpt2"].check(Architecture(shared, layers))


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


def _read_gpt2() -> Sequence[Trained]:
    return gpt2_entries(GPT2_FILES.path())


def _read_tiny() -> Sequence[Trained]:
    return first_seed(read_made(TINY), SPACE["tiny-gpt2"])


BENCHMARKS = [
    Benchmark(
        name="tiny-gpt2",
        summary="128 small GPT-2 decoders, trained by this project on the King James Bible",
        space=SPACE["tiny-gpt2"],
        metric="validation loss (nats per token)",
        larger_is_better=False,
        read=_read_tiny,
        citation=f"this project, after {LITE}",
        license="Apache-2.0",
        seq_len=64,
        document=lambda: read_made(TINY),
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
        notes=(
            "The GLUE scores follow hidden size, depth and the count of feed-forward layers, and are statistically "
            "independent of the operations, so what a proxy sees of those is noise here; nine architectures were "
            "trained twice and differ by 0.2 to 2.0 points"
        ),
    ),
    Benchmark(
        name="gpt2-wt103",
        summary="200 GPT-2 decoders, trained on WikiText-103",
        space=SPACE["gpt2"],
        metric="WikiText-103 perplexity",
        larger_is_better=False,
        read=_read_gpt2,
        citation=f"{LITE}; published with Dong et al., LPZero, EMNLP Findings 2024, arXiv:2410.04808",
        license="CC BY 4.0",
        batch_size=8,
        seq_len=64,
        fetch=GPT2_FILES.fetch,
    ),
]
