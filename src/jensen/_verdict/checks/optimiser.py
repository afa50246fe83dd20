"""Whether the optimiser certified its answer, and what everything is conditional on."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jensen._core import AbstractCheck, Estimates, Finding
from jensen._verdict.verdict import Material


class Optimiser(AbstractCheck):
    """Whether the method met its stopping rule."""

    def measure(self, material: Material) -> Iterator[Finding]:
        """`converged`, with the method's own words."""
        met = material.outcome.converged
        yield Finding(
            "optimiser met its stopping rule",
            float(met),
            "1",
            met,
            "trusted",
            "" if met else f"The optimiser did not certify its answer: {material.outcome.status}",
            "Let the fit run to its end, or give it a larger budget." if material.certificate.interrupted else "",
        )


class LinearResponse(AbstractCheck):
    """How far linear response widens the sds of a Gaussian; reported only."""

    def measure(self, material: Material) -> Iterator[Finding]:
        """The largest ratio of sds."""
        covariance = material.outcome.linear_response
        if covariance is not None:
            sds = np.sqrt(np.maximum(np.diag(covariance), 0.0))
            ratio = float((sds / material.outcome.q.scales()).max())
            yield Finding("linear-response sd / sd of q, worst", ratio, "< 3", ratio < 3, "")


@dataclass(frozen=True)
class Given(AbstractCheck):
    """Point estimates that everything else is conditional on."""

    estimates: Estimates

    def measure(self, material: Material) -> Iterator[Finding]:
        """Their names, and what the gap of the bound does to them."""
        del material
        names = ", ".join(map(repr, self.estimates.titles))
        note = f"All this is given {names}. {self.estimates.bias}"
        yield Finding("parameters held at their estimates", float(len(self.estimates)), "reported", True, "", note=note)


@dataclass(frozen=True)
class Said(AbstractCheck):
    """A remark for every verdict, with the number behind it."""

    title: str
    value: float
    note: str

    def measure(self, material: Material) -> Iterator[Finding]:
        """The remark."""
        del material
        yield Finding(self.title, self.value, "reported", True, "", note=self.note)


@dataclass(frozen=True)
class Unweighed(AbstractCheck):
    """There are no importance weights, so that nothing is established: `why`, and what to do."""

    why: str
    remedy: str

    def measure(self, material: Material) -> Iterator[Finding]:
        """The reason."""
        del material
        yield Finding("importance weights", 0.0, "1", False, "usable", self.why, self.remedy)
