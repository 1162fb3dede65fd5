"""Values that the papers print, with their source. What was not available to us is not here."""

from __future__ import annotations

from dataclasses import dataclass

LPZERO = "Dong et al., LPZero, EMNLP Findings 2024, arXiv:2410.04808"
ZEROLM = "Chen et al., ZeroLM, 2025, arXiv:2503.18646"
FIGURE1 = "the LPZero authors' plotting code for Figure 1, GitHub pprp/LPZero, lpzero/runner/plot_motivation.py"
SERIANNI = "Serianni and Kalita, ACL 2023, arXiv:2306.00288"


@dataclass(frozen=True)
class Printed:
    """A printed agreement with the trained performance; papers print absolute values.

    Args:
        rho: Spearman's.
        tau: Kendall's, as it is printed; empty where it was not available.
        source: where it is printed.
    """

    rho: float
    tau: str
    source: str


def _figure1(rho: float) -> Printed:
    return Printed(rho, "", FIGURE1)


FLEXIBERT = {  # the paper's Table 3 and Figure 1
    "Activation Distance": _figure1(0.123),
    "Jacobian Cosine": _figure1(0.149),
    "Attention Importance": _figure1(0.162),
    "Head Importance": _figure1(0.171),
    "SNIP": _figure1(0.173),
    "Synaptic Diversity": _figure1(0.175),
    "GraSP": _figure1(0.179),
    "GradNorm": _figure1(0.197),
    "Fisher": _figure1(0.209),
    "Synaptic Saliency": _figure1(0.266),
    "Head Confidence": _figure1(0.364),
    "Synflow": _figure1(0.471),
    "LogSynflow": _figure1(0.491),
    "No. Params.": _figure1(0.590),
    "Attention Confidence": _figure1(0.666),
    "LPZero": _figure1(0.748),
}
FLEXIBERT_ALSO = {  # the same quantities as another paper prints them
    "No. Params.": Printed(0.65, "0.45", ZEROLM),
    "LPZero": Printed(0.75, "0.51", ZEROLM),
    "ZeroLM": Printed(0.76, "0.53", ZEROLM),
}
GPT2 = {  # the paper's Table 4
    "LPZero": Printed(0.98, "0.87 to 0.89", LPZERO),
    "Attention Params": Printed(0.976, "0.883", LPZERO),
    "Decoder Params": Printed(0.967, "0.847", LPZERO),
    "SNIP": Printed(0.971, "0.859", LPZERO),
}
