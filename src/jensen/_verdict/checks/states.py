"""Whether the probabilities of discrete latents hold, those of states that q never visits among them."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from jensen._core import AbstractCheck, Finding
from jensen._verdict.states import Probabilities, Searched, search
from jensen._verdict.verdict import Material

ABSOLUTE, RELATIVE = 0.01, 0.25
"""What is promised of a probability: this error, or this part of it, whichever is larger."""
WEIGHED = 1.0
"""Part of what is promised that Monte Carlo errors of corrected probabilities may add to it; to q's own nothing."""
MISSED = 0.05
"""Nats by which the evidence that a search finds may lie below the lower limit of the whole."""
SUM = (
    "Fit with method=jn.advi(family='full_rank'), which sums the discrete latents out, or sum over their states in the "
    "model yourself."
)
ELSEWHERE = "The other latents are elsewhere in that state: fit with method=jn.auto(escalate=True), or run NUTS."


class States(AbstractCheck):
    """q's probabilities against corrected ones, and both against the evidence of every state by itself."""

    dear = True

    def measure(self, material: Material) -> Iterator[Finding]:
        """Nothing where no discrete latent of moderate size has probabilities that renumberings leave open."""
        answer = material.answer
        known = answer.probabilities(material.pool, material.draws, answer.exchanged(material.pool))
        if not known:
            return
        found = search(material.answer.program, known, material.seed)
        if found:  # a search that finds less than there certainly is has missed modes, and says nothing of states
            low = material.answer.evidence(material.pool).interval[0]
            found = {name: one for name, one in found.items() if one.total > low - MISSED}
        if found and (material.certificate.relabelled or material.answer.labellings(material.pool).log_count):
            pairs = {name: alike(known[name], one) for name, one in found.items()}
            known = {**known, **{name: pair[0] for name, pair in pairs.items()}}
            found = {name: pair[1] for name, pair in pairs.items()}
        own, weighed = [], []
        for name, one in known.items():
            alone = found.get(name)
            if alone is None:
                own.append(_worst(name, one, one.own, one.corrected))
            else:
                own.append(_worst(name, one, one.own, alone.probability))
                noise = 3.0 * np.hypot(one.error, alone.error)
                weighed.append(_worst(name, one, one.corrected, alone.probability, noise))
        yield _finding("probabilities of states under q", "under q", max(own), "trusted", "")
        if weighed:
            remedy = ELSEWHERE if material.answer.structure.summed else SUM
            title = "probabilities of states, each sought by itself"
            yield _finding(title, "by the weights", max(weighed), "usable", remedy)


def _finding(title: str, how: str, worst: tuple[float, str, float, float], blocks: Any, remedy: str) -> Finding:
    size, name, value, right = worst
    passed = size <= 1.0
    reason = f"The probability of {name} is {value:.3g} {how} and should be about {right:.2g}."
    limit = f"< {ABSOLUTE} or {RELATIVE:.0%}"
    return Finding(title, abs(value - right), limit, passed, blocks, "" if passed else reason, remedy)


def alike(known: Probabilities, found: Searched) -> tuple[Probabilities, Searched]:
    """Both averaged over entries, and over values, that the search cannot tell apart.

    Of equivalent labellings q describes one, while the evidence of a state is that of all of them; averages over what a
    renumbering exchanges are the same for both.
    """
    rows, columns = _groups(found.probability), _groups(found.probability.T)

    def mean(values: np.ndarray) -> np.ndarray:
        return rows @ values @ columns.T

    def error(values: np.ndarray) -> np.ndarray:
        return np.sqrt(mean(values**2))

    own, weighed = (mean(known.own), error(known.own_error)), (mean(known.corrected), error(known.error))
    return Probabilities(known.values, known.shape, *own, *weighed), Searched(
        mean(found.probability), error(found.error)
    )


def _groups(table: np.ndarray) -> np.ndarray:
    """The matrix that averages over rows which agree within what is promised of a probability."""
    allowed = np.maximum(ABSOLUTE, RELATIVE * np.minimum(table[:, None], table))
    same = (np.abs(table[:, None] - table) <= allowed).all(axis=-1).astype(float)
    return same / same.sum(axis=1, keepdims=True)


def _worst(
    name: str, known: Probabilities, value: np.ndarray, right: np.ndarray, noise: np.ndarray | float = 0.0
) -> tuple[float, str, float, float]:
    """(largest error in units of what is promised, its name, the value, what it should be)."""
    promised = np.maximum(ABSOLUTE, RELATIVE * right)
    allowed = promised + np.minimum(noise, WEIGHED * promised)
    sizes = (np.abs(value - right) / allowed).reshape(-1)
    top = int(sizes.argmax())
    return float(sizes[top]), known.names(name)[top], float(value.reshape(-1)[top]), float(right.reshape(-1)[top])
