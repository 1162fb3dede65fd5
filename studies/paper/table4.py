"""Table 4: proxies on GPT-2, as printed, from the published scores, and ours."""

from __future__ import annotations

from studies.paper.comparing import PrintedPair, comparison
from studies.paper.printed import GPT2
from studies.study import Runs, Study

PAIRS = (
    PrintedPair("SNIP", "snip", "snip"),
    PrintedPair("GradNorm", "grad_norm", "grad_norm"),
    PrintedPair("Synaptic Saliency", "synaptic_saliency_lpzero", "synaptic_saliency"),
    PrintedPair("LogSynflow", "logsynflow_lpzero", "logsynflow"),
    PrintedPair("Synaptic Diversity", "synaptic_diversity_lpzero", "synaptic_diversity"),
    PrintedPair("Head Importance", "head_importance_lpzero", "head_importance"),
    PrintedPair("Attention Confidence", "attention_confidence_lpzero", "attention_confidence"),
    PrintedPair("Head Confidence", "attention_confidence_lpzero", "head_confidence"),
    PrintedPair(
        "Fisher", "fisher", "fisher",
        "the code squares activation times gradient at every token and gives each channel's value to all of its "
        "weights, so wide layers count more. Ours squares the sum over tokens, as Turner et al. do.",
    ),
    PrintedPair(
        "Activation Distance", "activation_distance_lpzero", "activation_distance",
        "the published scores follow the number of outputs of all linear layers (see Published scores). Ours uses the "
        "feed-forward activations.",
    ),
    PrintedPair(
        "Jacobian Cosine", "jacobian_cosine", "jacobian_cosine",
        "the code takes the gradient of the position embeddings, with features instead of samples. Ours takes the "
        "Jacobian of each sample, as Celotti et al. do.",
    ),
    PrintedPair("Synflow", "synflow", "synflow"),
    PrintedPair(
        "GraSP", "grasp", "grasp",
        "its sign depends on the initialisation. With GPT-2's, ours changes sign as well (see Published GPT-2 scores: "
        "what the initialisation decides).",
    ),
    PrintedPair(
        "EZNAS", "eznas", "eznas",
        "the code takes the determinant of the signs of a gradient, which is square only for some layers. The "
        "published scores are close to whole numbers and mostly count layers (see Published scores).",
    ),
    PrintedPair("No. Params.", "params", "num_parameters"),
    PrintedPair("Decoder Params", "decoder_params"),
    PrintedPair("Attention Params", "attention_params"),
    PrintedPair(
        "LPZero", "lpzero_paper_gpt2", "lpzero",
        "the published winner depends on depth only through GPT-2's initialisation (see Published scores). Our model "
        "draws all weights with one standard deviation, so the winner loses that part here (see Published GPT-2 "
        "scores: what the initialisation decides). In addition, ours takes the softmax over a layer's outputs, theirs "
        "over its inputs.",
    ),
    PrintedPair("(ours) lpzero-gpt2", "lpzero-gpt2"),
)  # fmt: skip


class Table4(Study):
    """Printed, published and ours, on 200 architectures."""

    name = "table4"
    title = "Table 4: proxies on GPT-2"

    def show(self, runs: Runs) -> str:
        """The table, and why figures differ."""
        return (
            "Four rows of the printed table were available to us. The others are computed from the published scores of "
            "single architectures, with their sign (papers print absolute values). The trained performance is the "
            "validation perplexity, turned so that larger is better. `lpzero-gpt2` is graded on the architectures it "
            "was not searched on.\n\n" + comparison("gpt2-wt103", PAIRS, GPT2, runs)
        )
