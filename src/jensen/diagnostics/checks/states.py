"""Whether the probabilities of discrete latents hold, those of states that q never visits among them."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from jensen.core import AbstractCheck, Finding
from jensen.diagnostics.states import Probabilities, search
from jensen.diagnostics.verdict import Material

ABSOLUTE, RELATIVE = 0.01, 0.25
"""What is promised of a probability: this error, or this part of it, whichever is larger."""
NOISE = 0.25
"""Part of what is promised that Monte Carlo errors may add to it."""
SUM = (
    "Fit with method=jn.advi(family='full_rank'), which sums the discrete latents out, or sum over their states in the "
    "model yourself."
)
ELSEWHERE = "The other latents are elsewhere in that state: fit with method=jn.auto(escalate=True), or run NUTS."


class States(AbstractCheck):
    """q's probabilities against corrected ones, and both against the evidence of every state by itself."""

    def measure(self, material: Material) -> Iterator[Finding]:
        """Nothing where there is no discrete latent of moderate size."""
        known = material.answer.probabilities(material.pool, material.draws)
        if not known:
            return
        # Of equivalent labellings q is to describe one; the evidence of a state is that of all of them.
        copies = material.certificate.relabelled or material.answer.labellings(material.pool).log_count
        found = {} if copies else search(material.answer.program, known, material.seed)
        own, weighed = [], []
        for name, one in known.items():
            alone = found.get(name)
            if alone is None:
                own.append(_worst(name, one, one.own, one.corrected, 3.0 * np.hypot(one.own_error, one.error)))
            else:
                own.append(_worst(name, one, one.own, alone.probability, 3.0 * np.hypot(one.own_error, alone.error)))
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


def _worst(
    name: str, known: Probabilities, value: np.ndarray, right: np.ndarray, noise: np.ndarray
) -> tuple[float, str, float, float]:
    """(largest error in units of what is promised, its name, the value, what it should be)."""
    promised = np.maximum(ABSOLUTE, RELATIVE * right)
    allowed = promised + np.minimum(noise, NOISE * promised)
    sizes = (np.abs(value - right) / allowed).reshape(-1)
    top = int(sizes.argmax())
    return float(sizes[top]), known.names(name)[top], float(value.reshape(-1)[top]), float(right.reshape(-1)[top])
