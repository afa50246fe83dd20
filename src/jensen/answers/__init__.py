"""Answers: what a `Fit` needs to know about an approximation, one class for each kind of q."""

from typing import Any

from jensen._errors import ModelError
from jensen.answers.amortised import AmortisedAnswer
from jensen.answers.chains import ChainsAnswer
from jensen.answers.conjugate import ConjugateAnswer
from jensen.answers.contract import AbstractAnswer, Draws
from jensen.answers.flexible import FlexibleAnswer
from jensen.answers.gaussian import GaussianAnswer
from jensen.answers.hierarchical import HierarchicalAnswer
from jensen.answers.native import NativeAnswer
from jensen.answers.streamed import StreamedAnswer
from jensen.answers.swept import SweptAnswer
from jensen.core import Outcome

KINDS: tuple[type[AbstractAnswer], ...] = (
    GaussianAnswer,
    ChainsAnswer,
    FlexibleAnswer,
    ConjugateAnswer,
    SweptAnswer,
    StreamedAnswer,
    NativeAnswer,
    HierarchicalAnswer,
    AmortisedAnswer,
)


def answer_for(target: Any, outcome: Outcome, seed: int) -> AbstractAnswer:
    """The answer for this kind of q, on the target it was fitted to."""
    kind = next((kind for kind in KINDS if isinstance(outcome.q, kind.approximates)), None)
    if kind is None:
        raise ModelError(
            f"The method left a {type(outcome.q).__name__} behind, and no answer knows how to read one.",
            f"Status of the fit: {outcome.status}",
            "Return an AbstractGaussian or an AbstractLocationScale as Outcome.q (see docs/extending.md).",
        )
    return kind(target, outcome, seed)


def kind_named(name: str) -> type[AbstractAnswer]:
    """The class that a saved fit names; a `KeyError` for a name of none."""
    return {kind.kind: kind for kind in KINDS}[name]


__all__ = [
    "KINDS",
    "AbstractAnswer",
    "AmortisedAnswer",
    "ChainsAnswer",
    "ConjugateAnswer",
    "Draws",
    "FlexibleAnswer",
    "GaussianAnswer",
    "HierarchicalAnswer",
    "NativeAnswer",
    "StreamedAnswer",
    "SweptAnswer",
    "answer_for",
    "kind_named",
]
