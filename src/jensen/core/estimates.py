"""Point estimates of parameters that were learned, with what they are worth in words."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Estimates(Mapping[str, np.ndarray]):
    """Parameter -> the value that maximises the bound; no posterior belongs to them.

    Attributes:
        values_: the values. kinds: name -> "param", "argument" or "site" (a latent held at its best value).
        exact: whether q is the exact conditional of the latents, so that the bound is the log likelihood.
        certificate: optimiser diagnostics by name.

    Example:
        >>> Estimates({"sigma": np.array(2.0)}, {"sigma": "param"}, True)["sigma"]
        array(2.)
    """

    values_: dict[str, np.ndarray]
    kinds: dict[str, str]
    exact: bool
    certificate: dict[str, float] = field(default_factory=dict)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.values_[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_)

    def __len__(self) -> int:
        return len(self.values_)

    @property
    def bias(self) -> str:
        """What the gap between the bound and the log likelihood does to these values, in words."""
        held = [name for name, kind in self.kinds.items() if kind == "site"]
        prior = f" The priors of {', '.join(held)} stay in it: these are posterior modes." if held else ""
        if self.exact:
            return (
                "The latents' conditional is exact, so the bound is the log likelihood itself: no gap biases these "
                f"values.{prior}"
            )
        return (
            "These values maximise the bound, not the log likelihood. Where the gap KL(q | posterior) changes with a "
            "parameter, its estimate is drawn to where q fits better (a latent scale is typically underestimated). "
            "The check is fit.evidence(): the less the importance-weighted bound lies above the ELBO, the less bias "
            f"there can be.{prior}"
        )

    def __repr__(self) -> str:
        lines = [
            f"  {name}: {np.array2string(np.asarray(value), precision=4, threshold=20, prefix=' ' * (len(name) + 4))}"
            for name, value in self.values_.items()
        ]
        return "\n".join(["Point estimates (no posterior):", *lines, self.bias])
