"""What the weights of a product leave out."""

from collections.abc import Iterator
from dataclasses import dataclass

from jensen._core import AbstractCheck, Finding
from jensen._verdict.verdict import Material


@dataclass(frozen=True)
class Integrated(AbstractCheck):
    """Whether the latents without weights, `names`, left exactly; else a bound stands in the weights for them."""

    names: tuple[str, ...]
    exact: bool

    def measure(self, material: Material) -> Iterator[Finding]:
        """One line."""
        del material
        reason = f"{', '.join(self.names)} depend on each other row by row: the weights hold a bound in their place."
        yield Finding(
            "latents integrated out exactly", float(self.exact), "1", self.exact, reason="" if self.exact else reason
        )
