"""How far a hierarchical family is from a product of factors."""

from collections.abc import Iterator
from dataclasses import dataclass

from jensen._core import AbstractCheck, Finding
from jensen._hierarchical.dependence import Dependence
from jensen._verdict.verdict import Material


@dataclass(frozen=True)
class Expressed(AbstractCheck):
    """How far a hierarchical family is from a product, and a sentence and a remedy where that is nothing."""

    found: Dependence

    def measure(self, material: Material) -> Iterator[Finding]:
        """Reported only."""
        del material
        found, largest = self.found, self.found.largest()
        most = max(map(abs, largest.values()), default=float("nan"))
        note = remedy = ""
        if found.collapsed:
            note = (
                "q fell back to mean field: its latents do not depend on each other "
                f"(E[log r(λ|z) - log q(λ)] = {found.information:.2g} nats"
                + (f", largest correlation {most:.2g})." if largest else ").")
            )
            remedy = (
                "If dependence is expected, try jn.hvm(prior='mixture', importance=10) or more starts; if not, "
                "method='bbvi' says the same for less."
            )
        yield Finding(
            "E[log r(λ|z) - log q(λ)], nats", found.information, "reported", True, "", remedy=remedy, note=note
        )
        if found.total_correlation is not None:
            yield Finding("total correlation of q, nats", found.total_correlation[0], "reported", True, "")
        if largest:
            yield Finding("largest correlation under q", most, "reported", True, "")
