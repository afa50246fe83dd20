"""Which entries of a fitted latent are entries of the model on new data, and which are new.

An axis of a latent may have n entries in the fit and m on the new data. Levels that rows refer to by their number keep
it, and so do the steps of a series and the places of a field: entry i is entry i of the fit, and what lies beyond n is
new. Latents of the rows themselves (an observed site has the same axis, and no row's density depends on the entry of
another) are told by the inputs along that axis: a row with other inputs is a new row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jensen._base.errors import DataError
from jensen._data.data_check import named_arrays
from jensen._program.analysis import dependencies, feasible, feasible_trace, traced
from jensen._program.statements import bare


@dataclass(frozen=True)
class Seen:
    """A site on the new data: its shape, whether axis 0 is the time of a scan, and how many last axes are one law."""

    shape: tuple[int, ...]
    scanned: bool
    joint: int


@dataclass(frozen=True)
class Change:
    """A latent with new entries: for every axis of its shape on the new data, the entries that are the fit's."""

    shape: tuple[int, ...]
    places: tuple[np.ndarray, ...]
    scanned: bool
    coupled: bool

    @property
    def fresh(self) -> np.ndarray:
        """Flat indices of the new entries."""
        new = np.ones(self.shape, bool)
        new[np.ix_(*self.places)] = False
        return np.flatnonzero(new)


def seen(fn: Callable[..., Any], arrays: dict[str, Any], fixed: dict[str, Any]) -> dict[str, Seen]:
    """Every sample site on these inputs; the program is traced, not evaluated."""
    laws: dict[str, tuple[int, int]] = {}

    def value(site: dict[str, Any]) -> Any:
        if site["type"] == "sample":
            laws[site["name"]] = len(site["fn"].shape()), _joint(site["fn"])
        return feasible(site)

    def look(given: dict[str, Any]) -> dict[str, tuple[int, ...]]:
        trace = feasible_trace(fn, {**given, **fixed}, value)
        return {name: np.shape(site["value"]) for name, site in trace.items() if site["type"] == "sample"}

    shapes = traced(look, arrays)
    return {
        name: Seen(shape, len(shape) > laws.get(name, (len(shape), 0))[0], laws.get(name, (0, 0))[1])
        for name, shape in shapes.items()
    }


def _joint(fn: Any) -> int:
    """How many last axes are one event whose entries are not independent by construction."""
    return bare(fn).event_dim


class Levels:
    """The fit's latents against the sites that the new data make of them."""

    def __init__(self, fit: Any, old: Mapping[str, Any], new: Mapping[str, Any], sites: dict[str, Seen]):
        self.fit, self.sites, self.structure = fit, sites, fit.structure
        outcomes = {site.data_key for site in self.structure.observed}
        given = dict(named_arrays(new))
        pairs = ((name, np.asarray(array), given.get(name)) for name, array in named_arrays(old))
        self.inputs = [(name, a, np.asarray(b)) for name, a, b in pairs if b is not None and name not in outcomes]
        self.factors = [site.name for site in self.structure.sites.values() if site.kind == "factor"]

    def changes(self, draws: Mapping[str, np.ndarray]) -> dict[str, Change | None]:
        """Site -> its change, `None` where every entry is the fit's; sites that the new data do not have are left out.

        Raises `DataError` where a latent has another number of axes, or where the entries of one law are not those of
        the fit followed by new ones.
        """
        found: dict[str, Change | None] = {}
        for name in (site.name for site in self.structure.drawn if site.name in draws and site.name in self.sites):
            site, old = self.sites[name], draws[name].shape[1:]
            if len(site.shape) != len(old):
                raise DataError(
                    f"'{name}' has {len(site.shape)} axes on the new data and {len(old)} in the fit.",
                    f"Site '{name}', shapes {site.shape} and {old}.",
                    "Give new data that leave the number of axes as it is.",
                )
            if site.shape == old:
                found[name] = None
                continue
            places = tuple(self._places(name, axis, draws) for axis in range(len(old)))
            joint = old[len(old) - site.joint :] != site.shape[len(old) - site.joint :]
            found[name] = Change(site.shape, places, site.scanned, joint or name in self._tied)
        return found

    @cached_property
    def _tied(self) -> set[str]:
        """The latents that factors of the program depend on."""
        program = self.fit.answer.program
        parents = dependencies(program.fn, self.structure, program.arrays, program.fixed) if self.factors else {}
        return {latent for name in self.factors for latent in parents.get(name, ())}

    def moved(self, name: str) -> str | None:
        """An input that differs along an axis of one law (the places of a field), as many as there are."""
        site = self.sites[name]
        for n in site.shape[len(site.shape) - site.joint :]:
            key, same = self._same(n, n)
            if not same.all() and any(n in s.shape for s in self.structure.observed):
                return key
        return None

    def _places(self, name: str, axis: int, draws: Mapping[str, np.ndarray]) -> np.ndarray:
        """The entries along one axis that are the fit's."""
        site, n = self.sites[name], draws[name].shape[1 + axis]
        m = site.shape[axis]
        both = np.arange(min(m, n))
        rows = [s.name for s in self.structure.observed if _along(s.shape, self.sites[s.name].shape, n, m)]
        if m == n or not rows:
            return both
        key, same = self._same(n, m)
        series = (site.scanned and axis == 0) or axis >= len(site.shape) - site.joint
        if not series and not self._mixes(name, axis, rows, draws):
            return np.flatnonzero(same) if key or m > n else both[:0]
        if not same.all():
            raise DataError(
                f"The entries of '{name}' depend on each other, and the new data do not begin with those of the fit.",
                f"Site '{name}', {n} entries in the fit and {m} on the new data; '{key}' first differs at entry "
                f"{int(np.argmin(same))}.",
                "Give the inputs of the fit and the new ones after them; the predictions come in that order.",
            )
        return both

    def _same(self, n: int, m: int) -> tuple[str, np.ndarray]:
        """An input that tells the entries of an axis apart, and whether each has the inputs that it had in the fit."""
        same, told = np.ones(min(n, m), bool), ""
        for name, a, b in self.inputs:
            axes = _along(a.shape, b.shape, n, m) if a.ndim == b.ndim else []
            if axes:
                block = tuple(slice(0, min(pair)) for pair in zip(a.shape, b.shape, strict=True))
                equal = (a[block] == b[block]) | ((a[block] != a[block]) & (b[block] != b[block]))
                here = equal.all(axis=tuple(k for k in range(a.ndim) if k != axes[0]))
                told = told if told and here.all() else name
                same &= here
        return told, same

    def _mixes(self, name: str, axis: int, rows: Sequence[str], draws: Mapping[str, np.ndarray]) -> bool:
        """Whether another value of one entry changes the density of rows other than its own."""
        n = draws[name].shape[1 + axis]
        if n < 2 or len(draws[name]) < 2:
            return False
        two = {key: np.stack([values[0], values[0]]) for key, values in draws.items()}
        index = (1, *(slice(None) for _ in range(axis)), n // 2)
        two[name][index] = draws[name][index]
        for site, terms in self.fit.answer.pointwise(two, list(rows)).items():
            ahead = _along(self.structure.sites[site].shape, self.sites[site].shape, n, self.sites[name].shape[axis])[0]
            moved = terms[0] != terms[1]
            if ahead < moved.ndim:
                moved = moved.any(axis=tuple(k for k in range(moved.ndim) if k != ahead))
                moved[n // 2] = False
            if moved.any():
                return True
        return False


def _along(old: Sequence[int], new: Sequence[int], n: int, m: int) -> list[int]:
    """The axes that have n entries in the fit and m on the new data."""
    return [axis for axis, pair in enumerate(zip(old, new, strict=False)) if pair == (n, m)]
