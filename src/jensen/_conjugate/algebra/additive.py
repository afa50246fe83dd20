"""Whether batches can stand for all rows: log densities at a point are sums over the rows of a plate.

With f_s(R) the log density of site s on the rows R at fixed values of the globals, the bound of a batch, its row terms
multiplied by N / B, has the bound of all rows as its mean exactly if f_s(R) = Σ_{r ∈ R} f_s({r}) for the sites of the
plate and f_s(R) does not depend on R for all others. Here R is split in two, and the program itself is evaluated on R
and on both parts. The derived algebra shows that latents interact by rows only; it cannot see what was done to the
data before: x - x.mean(), a scale with len(x) in it, an observed site that stands outside the plate.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import biject_to
from numpyro.infer.util import compute_log_probs

from jensen._base.errors import ModelError
from jensen._conjugate.algebra.resized import resized
from jensen._conjugate.algebra.trace import SiteInfo
from jensen._math.programs import Program
from jensen._program.number_widths import seeded
from jensen._program.structure import plate_axis
from jensen._program.user_code import user_frame

MOST = 9
"""Rows on which the check is made."""
TOLERANCE = 1e-9


class Additivity:
    """The check of one program, compiled once.

    Attributes:
        fn: the program. sites: those of a batch of `size` rows of `plate`. fixed: arguments needed concretely.
        written: numbers of rows that may be written down in the program as the size of the plate.
    """

    fn: Callable[..., Any]
    sites: Mapping[str, SiteInfo]
    plate: str
    size: int
    fixed: Mapping[str, Any]

    def __init__(
        self,
        fn: Callable[..., Any],
        sites: Mapping[str, SiteInfo],
        plate: str,
        size: int,
        fixed: Mapping[str, Any],
        written: Sequence[int],
    ):
        self.fn, self.sites, self.plate, self.size, self.fixed = fn, sites, plate, size, fixed
        self._programs = [Program(partial(self._run, n)) for n in (None, *dict.fromkeys(written))]

    def run(self, arrays: Mapping[str, Any], shared: frozenset[str], padded: frozenset[str]) -> None:
        """Raise a `ModelError` that names the first site whose log density is not a sum over rows.

        `arrays` holds a batch; those in `shared` have no rows, those in `padded` a second axis that was filled up.
        """
        rows = np.sort(np.random.default_rng(5).permutation(self.size)[:MOST])
        half = len(rows) // 2
        groups = [np.arange(len(rows)), np.arange(half), np.arange(half, len(rows))]
        values = self._values(len(rows))
        held = {k: v for k, v in arrays.items() if k not in shared and np.shape(v)[:1] == (self.size,)}
        cut = [{**arrays, **{k: v[rows[group]] for k, v in held.items()}} for group in groups]
        runs = [(own, self._taken(values, group)) for own, group in zip(cut, groups, strict=True)]
        if padded:
            runs.append(self._longer(*runs[0], padded))
        self._compare(self._evaluated(runs), [len(group) for group in groups])

    def _evaluated(self, runs: Any) -> Any:
        """The terms of every run, by the first program that can be run on some rows."""
        first: Exception | None = None
        for number, program in enumerate(self._programs):
            try:
                found = jax.device_get(program(runs))
            except Exception as error:
                first = first or error
                continue
            self._programs = [program, *self._programs[:number], *self._programs[number + 1 :]]
            return found
        raise ModelError(
            f"The model cannot be run on some of the {self.size} rows of a batch ({type(first).__name__}: "
            f"{(str(first).splitlines() or ['no message'])[0]}), so that nothing shows that batches can stand for all "
            "rows.",
            f"At {user_frame(first)}." if first and user_frame(first) else f"Plate '{self.plate}'.",
            "Let the plate take its size from the data, numpyro.plate('row', len(x)); or use cavi.",
        ) from first

    def _compare(self, found: Any, counts: list[int]) -> None:
        for name, info in self.sites.items():
            if name not in found[0][0]:
                continue
            values = [float(total[name]) for total, _ in found]
            noise = TOLERANCE * (1.0 + max(float(size[name]) for _, size in found))
            inside = self._inside(info)
            if inside and not abs(values[0] - values[1] - values[2]) <= noise:
                raise ModelError(
                    f"'{name}' is no sum over the rows of plate '{self.plate}': its log density on {counts[0]} rows "
                    f"is {values[0]:.8g}, on {counts[1]} and {counts[2]} of them {values[1]:.8g} and "
                    f"{values[2]:.8g}. A batch cannot stand for all rows then.",
                    info.where,
                    "What depends on other rows or on their number (a mean over rows, len(x), a scale of N / B) must "
                    "be computed from all data beforehand and passed as an argument; or use cavi.",
                )
            if not inside and not max(abs(values[0] - values[1]), abs(values[0] - values[2])) <= noise:
                raise ModelError(
                    f"'{name}' stands outside plate '{self.plate}', but its log density depends on the rows of a "
                    f"batch: {values[0]:.8g} on {counts[0]} rows, {values[1]:.8g} on {counts[1]} of them.",
                    info.where,
                    f"Put it into the plate, with numpyro.plate('{self.plate}', len(x)) and without to_event over the "
                    "rows; compute what all rows share beforehand and pass it as an argument; or use cavi.",
                )
            if len(values) > 3 and not abs(values[3] - values[0]) <= noise:
                raise ModelError(
                    f"Padded entries count in '{name}': rows padded by one more entry change its log density from "
                    f"{values[0]:.8g} to {values[3]:.8g}.",
                    info.where,
                    "Give padded entries no weight: handlers.scale(scale=count), or handlers.mask(mask=count > 0).",
                )

    def _inside(self, info: SiteInfo) -> bool:
        return any(p.name == self.plate for p in info.plates)

    def _run(self, written: int | None, runs: Any) -> Any:
        return [self._terms(self._resized(written, values), arrays, values) for arrays, values in runs]

    def _resized(self, written: int | None, values: dict[str, Any]) -> Callable[..., Any]:
        """The program with plates of as many rows as there are values, where it says `written` of them."""
        if written is None:
            return self.fn
        name, info = next((n, i) for n, i in self.sites.items() if n in values and self._inside(i))
        return resized(self.fn, written, np.shape(values[name])[self._axis(info)])

    def _terms(self, fn: Callable[..., Any], arrays: dict[str, Any], values: dict[str, Any]) -> Any:
        """(Σ, Σ |.|) of every site's log density."""
        terms, _ = compute_log_probs(seeded(fn), (), {**arrays, **self.fixed}, values, sum_log_prob=False)
        return {n: jnp.sum(t) for n, t in terms.items()}, {n: jnp.sum(jnp.abs(t)) for n, t in terms.items()}

    def _axis(self, info: SiteInfo) -> int:
        """The axis of a site's value that runs over the plate."""
        axis = plate_axis(info, self.plate)
        assert axis is not None  # asked of sites inside the plate only
        return axis

    def _values(self, rows: int) -> dict[str, Any]:
        """Values of all latents, with so many rows of those in the plate."""
        rng, values = np.random.default_rng(17), {}
        for name, info in self.sites.items():
            if info.observed:
                continue
            shape = list(info.shape)
            if self._inside(info):
                shape[self._axis(info)] = rows
            if info.values is not None:
                values[name] = info.values[rng.integers(len(info.values), size=shape)]
            else:
                transform = biject_to(info.support)
                noise = 0.3 * rng.normal(size=transform.inverse_shape(tuple(shape)))
                values[name] = np.asarray(transform(jnp.asarray(noise)))
        return values

    def _taken(self, values: dict[str, Any], rows: np.ndarray) -> dict[str, Any]:
        return {
            name: np.take(value, rows, self._axis(self.sites[name])) if self._inside(self.sites[name]) else value
            for name, value in values.items()
        }

    def _longer(self, arrays: dict[str, Any], values: dict[str, Any], padded: frozenset[str]) -> tuple[Any, Any]:
        """The same rows with one more padded entry."""
        lengths = {arrays[name].shape[1] for name in padded}
        wide = {
            k: np.pad(v, [(0, 0), (0, 1)] + [(0, 0)] * (v.ndim - 2)) if k in padded else v for k, v in arrays.items()
        }
        longer = {}
        for name, value in values.items():
            info = self.sites[name]
            axes = [len(info.shape) - info.event_dim + p.dim for p in info.plates if p.size in lengths]
            axes = [a for a in axes if self._inside(info) and a != self._axis(info)]
            longer[name] = np.concatenate([value, np.take(value, [0], axes[0])], axes[0]) if axes else value
        return wide, longer
