"""The density of θ told by a surface through few of its values, where each value is dear."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jensen._math.reckoning import CALL, NUMBER, Price
from jensen._math.surface import Surface
from jensen._nested.target import NestedTarget

ARRAYS = ("centre", "factor", "points", "values", "slopes", "lengths", "low")
NUMBERS = ("constant", "nugget", "scale", "reach")


class EmulatedTarget(NestedTarget):
    """Log densities and gradients are the surface's; latents are drawn, and errors measured, by the program.

    Attributes:
        exact: the target whose values the surface follows. surface: log p(x, θ) over R^d, in nats.
        off: mean over the posterior of the distance between the two, in nats, at points that the surface has not seen.
    """

    draws = 32_768  # its values cost next to nothing
    exact: NestedTarget
    surface: Surface
    off: float

    @classmethod
    def over(cls, exact: NestedTarget, surface: Surface, off: float) -> "EmulatedTarget":
        """The target of a surface through values of `exact`."""
        exact = exact.settled()
        found = cls(exact.model, exact.structure, exact.precision)
        found.exact, found.surface, found.off = exact, surface, off
        found.costs(rows=surface.points.size)
        found.dear, found.second_order = True, False  # no program evaluates the surface
        return found

    @property
    def origin(self) -> NestedTarget:
        """What the surface follows."""
        return self.exact.settled()

    @property
    def reach(self) -> float:  # type: ignore[override]
        """A surface has no loops."""
        return np.inf

    @property
    def price(self) -> Price:  # type: ignore[override]
        """Of the surface, whose values are products with all that it knows."""
        return Price(CALL, NUMBER * self.surface.points.size)

    def value_and_grad(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log densities (rows,) in nats and gradients (rows, d) of the surface."""
        self.gradients += len(points)
        return self.surface.value_and_grad(np.asarray(points, float))

    def value(self, points: np.ndarray) -> np.ndarray:
        """Log densities (rows,) of the surface, in nats."""
        self.values += len(points)
        return self.surface.value_and_grad(np.asarray(points, float))[0]

    def complete(self, points: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        """Every latent and deterministic site, by the program."""
        return self.exact.complete(points, seed)

    def places(self, count: int) -> tuple[int, int]:
        """The program's."""
        return self.exact.places(count)

    def constrain(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """θ on its support, by the program."""
        return self.exact.constrain(points)

    @property
    def remarks(self) -> dict[str, tuple[float, str]]:
        """By how much the surface is off."""
        count = len(self.surface.points)
        note = f"The log density is told by a surface through {count} of its values, off by {self.off:.2g} nats."
        return {"surface / log density, nats": (self.off, note)}

    def settled(self, start: np.ndarray | None = None) -> Any:
        """The same: a surface has no memory."""
        del start
        return self

    def chart(self) -> dict[str, np.ndarray]:
        """The program's, and the surface."""
        own = {name: np.asarray(getattr(self.surface, name)) for name in (*ARRAYS, *NUMBERS)}
        return {**self.exact.chart(), "off": np.asarray(self.off), **{f"surface.{n}": v for n, v in own.items()}}

    @staticmethod
    def on_chart(exact: NestedTarget, saved: Mapping[str, np.ndarray]) -> NestedTarget:
        """With the surface that `chart` has described, if there is one."""
        if "surface.points" not in saved:
            return exact
        arrays: dict[str, Any] = {name: np.asarray(saved[f"surface.{name}"], float) for name in ARRAYS}
        numbers: dict[str, Any] = {name: float(saved[f"surface.{name}"]) for name in NUMBERS}
        return EmulatedTarget.over(exact, Surface(**arrays, **numbers), float(saved["off"]))
