"""What makes scores of several models mean different things: shapes, vocabularies, objectives, initial weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lpzero_hf.errors import ComparisonWarning
from lpzero_hf.foreign import Survived
from lpzero_hf.models.initial_std import initial_stds
from lpzero_hf.models.minibatch import vocabulary_size
from lpzero_hf.models.objective import head_kind
from lpzero_hf.scoring.setting import Setting

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

OBJECTIVES = {
    "causal": "the next token",
    "masked": "hidden tokens",
    "seq2seq": "one text from another",
    "other": "no loss, a random projection of the output",
}
SHOWN = 3  # names of models in a warning


@dataclass(frozen=True)
class ModelFacts:
    """What scores of a model depend on beside its architecture.

    Args:
        name: of the model.
        objective: "causal", "masked", "seq2seq" or "other", as `head_kind` tells it.
        vocabulary: tokens of its embedding.
        initial: the deviation of its random weights by the names of the fields; empty where a checkpoint is loaded.
        shape: sequences and tokens of its minibatch; None without one.
    """

    name: str
    objective: str
    vocabulary: int
    initial: Mapping[str, float]
    shape: tuple[int, int] | None = None


def facts_of(
    name: str, model: PreTrainedModel, shape: tuple[int, int] | None = None, *, drawn: bool = True
) -> ModelFacts:
    """The facts of a model, which may be lazy.

    Args:
        name: the caller's.
        model: as it is scored.
        shape: of its minibatch.
        drawn: whether its weights are random.
    """
    initial = initial_stds(model.config) if drawn else {}
    return ModelFacts(name, head_kind(model), vocabulary_size(model), initial, shape)


def facts_of_configs(configs: Mapping[str, PreTrainedConfig], setting: Setting) -> list[ModelFacts]:
    """The facts of architectures; of those of one class, one model is built, without memory for its weights. One
    that cannot be built has none."""
    built: dict[Any, PreTrainedModel | None] = {}
    facts = []
    for name, config in configs.items():
        kind = (type(config), tuple(config.architectures or ()), getattr(config, "is_decoder", None),
                getattr(config, "is_encoder_decoder", None))  # fmt: skip
        if kind not in built:
            try:
                with Survived():
                    built[kind] = setting.model(config, lazy=True)
            except Exception:  # its scores say why it cannot be built
                built[kind] = None
        model = built[kind]
        if model is None:
            continue
        vocabulary = getattr(config.get_text_config(), "vocab_size", None)
        initial = initial_stds(config) if setting.init_std is None else initial_stds(model.config)
        facts.append(
            ModelFacts(
                name, head_kind(model),
                vocabulary if isinstance(vocabulary, int) else vocabulary_size(model), initial,
            )
        )  # fmt: skip
    return facts


def warn_of_differences(configs: Mapping[str, PreTrainedConfig], setting: Setting) -> tuple[str, ...]:
    """Warn (`ComparisonWarning`) of what makes scores of architectures mean different things, see `differences`; the
    sentences."""
    told = tuple(differences(facts_of_configs(configs, setting)))
    for sentence in told:
        warnings.warn(sentence, ComparisonWarning, stacklevel=3)
    return told


def differences(models: Sequence[ModelFacts]) -> list[str]:
    """A sentence for each thing that differs between models and moves their scores, whatever their architectures."""
    told = []
    if shapes := _differing(models, lambda one: one.shape and f"{one.shape[0]} x {one.shape[1]} tokens"):
        least = min(one.shape[1] for one in models if one.shape)
        told.append(f"minibatches differ ({shapes}): most scores grow with them; use `seq_len={least}`")
    if objectives := _differing(models, lambda one: OBJECTIVES[one.objective]):
        told.append(f"objectives differ ({objectives}), so that gradients and losses are of other things")
    vocabularies = sorted({one.vocabulary for one in models})
    if len(vocabularies) > 1:
        shown = ", ".join(f"{size:,}" for size in vocabularies[:SHOWN])
        more = f" and {len(vocabularies) - SHOWN} more" if len(vocabularies) > SHOWN else ""
        told.append(f"vocabularies differ ({shown}{more} tokens), which shifts the loss and what is made of it")
    if initial := _differing([one for one in models if one.initial], lambda one: _spelled(one.initial)):
        told.append(
            f"random weights are drawn with other deviations ({initial}), which moves scores more than architectures "
            "do; `init_std=0.02` draws all alike"
        )
    return told


def _spelled(initial: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in initial.items())


def _differing(models: Iterable[ModelFacts], what: Callable[[ModelFacts], str | None]) -> str:
    """`"this: a, b; that: c"`, the names by what they have; empty where all that have it have the same."""
    names: dict[str, list[str]] = {}
    for model in models:
        if (value := what(model)) is not None:
            names.setdefault(value, []).append(model.name)
    if len(names) < 2:
        return ""
    shown = [f"{value}: {_few(of)}" for value, of in list(names.items())[:SHOWN]]
    return "; ".join(shown + ([f"and {len(names) - SHOWN} more"] if len(names) > SHOWN else []))


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
