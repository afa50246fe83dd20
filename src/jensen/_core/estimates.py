"""Numbers with their errors: of a bound, and point estimates of parameters that were learned."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import equinox as eqx
import jax
import numpy as np

from jensen._base.errors import OptionError, nearest
from jensen._core.certificate import Certificate

T = TypeVar("T")


@dataclass(frozen=True)
class Estimate:
    """A number with its Monte Carlo standard error, in nats."""

    value: float
    se: float

    def __str__(self) -> str:
        return f"{self.value:.4f} ± {self.se:.4f} nats"


@dataclass(frozen=True)
class Estimates(Mapping[str, np.ndarray]):
    """Parameter -> the value that maximises the bound; no posterior belongs to them.

    Attributes:
        values_: the values. kinds: name -> "param", "network" (one array of a network), "argument" or "site" (a latent
            held at its best value).
        exact: whether q is the exact conditional of the latents, so that the bound is the log likelihood.
        certificate: optimiser diagnostics by name.

    Example:
        >>> Estimates({"sigma": np.array(2.0)}, {"sigma": "param"}, True)["sigma"]
        array(2.)
    """

    values_: dict[str, np.ndarray]
    kinds: dict[str, str]
    exact: bool
    certificate: Certificate = field(default_factory=Certificate)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.values_[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_)

    def __len__(self) -> int:
        return len(self.values_)

    @property
    def titles(self) -> tuple[str, ...]:
        """The names, a network's arrays under one."""
        return tuple(dict.fromkeys(n.partition(".")[0] if self.kinds[n] == "network" else n for n in self))

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

    def into(self, name: str, module: T) -> T:
        """The network with its learned arrays: `module` is the one that was passed to `eqx_module(name, module)`.

        Works for any tree whose floating arrays are the param site `name + "$params"`.
        """
        own = {key: value for key, value in self.items() if key.startswith(f"{name}$params.")}
        leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(module, eqx.is_inexact_array))
        names = [f"{name}$params.{jax.tree_util.keystr(p, simple=True, separator='.')}" for p, _ in leaves]
        if sorted(names) != sorted(own):
            known = sorted({key.partition("$")[0] for key, kind in self.kinds.items() if kind == "network"})
            raise OptionError(f"No network '{name}' of this form was learned.", "", nearest(name, known))
        arrays, rest = eqx.partition(module, eqx.is_inexact_array)
        filled = [np.asarray(own[key], leaf.dtype) for key, (_, leaf) in zip(names, leaves, strict=True)]
        return eqx.combine(jax.tree.unflatten(jax.tree.structure(arrays), filled), rest)

    def __repr__(self) -> str:
        single = {name: value for name, value in self.values_.items() if self.kinds[name] != "network"}
        lines = [
            f"  {name}: {np.array2string(np.asarray(value), precision=4, threshold=20, prefix=' ' * (len(name) + 4))}"
            for name, value in single.items()
        ]
        networks: dict[str, list[int]] = {}
        for name, value in self.values_.items():
            if name not in single:
                networks.setdefault(name.partition(".")[0], []).append(np.size(value))
        lines += [
            f"  {name}: a network of {sum(sizes):,} numbers in {len(sizes)} arrays" for name, sizes in networks.items()
        ]
        return "\n".join(["Point estimates (no posterior):", *lines, self.bias])
