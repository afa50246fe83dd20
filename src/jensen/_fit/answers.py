"""Answers: what a `Fit` needs to know about an approximation, one class for each kind of q."""

from typing import Any

from jensen._amortised.answer import AmortisedAnswer
from jensen._auto.target import AutoTarget
from jensen._base.errors import ModelError
from jensen._blackbox.answer import NativeAnswer
from jensen._conjugate.answer import ConjugateAnswer
from jensen._conjugate.streamed_answer import StreamedAnswer
from jensen._conjugate.swept_answer import SweptAnswer
from jensen._core import Outcome
from jensen._gaussian.answer import GaussianAnswer
from jensen._gaussian.chains_answer import ChainsAnswer
from jensen._gaussian.flexible_answer import FlexibleAnswer
from jensen._hierarchical.answer import HierarchicalAnswer
from jensen._verdict.answer import AbstractAnswer, Draws

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
    return kind(getattr(target, kind.part) if isinstance(target, AutoTarget) else target, outcome, seed)


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
