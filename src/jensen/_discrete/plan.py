"""The layout of a model's discrete latents, found by the weakest assumption that a check on the program confirms."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.errors import ModelError
from jensen._discrete.eliminate import CouplingError, ScaleError, eliminate
from jensen._discrete.interpret import TooManyStatesError
from jensen._discrete.layout import DiscreteLayout, DiscreteSite, Mode
from jensen._discrete.program import STATES, pieces_of, run
from jensen._discrete.reduce import log_sum
from jensen._program.dependence import Links, links
from jensen._program.structure import Site, Structure

REMEDY = "Discrete latents that cannot be summed out are for coordinate ascent ('cavi') and black-box VI ('bbvi')."
Check = Callable[[DiscreteLayout], list[str]]
"""Names of the sites whose mode the program contradicts."""


def lay_out(
    fn: Callable[..., Any],
    structure: Structure,
    data: dict[str, Any],
    fixed: dict[str, Any],
    computed: tuple[str, ...],
    check: Check | None,
) -> DiscreteLayout:
    """How every discrete latent of a program is summed out.

    Entries of a latent are first taken not to meet (one enumerated axis), then, for the state of a `scan`, to meet
    their neighbours only, then to meet any other (an axis each, for few entries). Shapes decide, and `check`, which
    compares tables with the program at random values. Raises a `ModelError` where sums would be too large.
    """
    picked = _Picked(fn, structure, data, fixed)
    scanned = {site.name for site in structure.summed if site.scanned}
    modes = _weakest(structure, _chained(fn, structure, data, fixed, scanned))
    latent = {site.name: jax.ShapeDtypeStruct(site.shape, jnp.result_type(float)) for site in structure.latents}
    while True:
        layout = _layout(structure.summed, modes, picked)
        trial = functools.partial(_trial, fn, fixed, layout)

        try:
            jax.eval_shape(trial, latent, data)
        except CouplingError as error:
            _promote(modes, structure, error.site.name, error.names, scanned, picked)
            continue
        except ScaleError as error:
            raise ModelError(
                "A discrete latent under handlers.scale meets sites that are not under the same scale, which leaves "
                "open what is repeated.",
                f"Sites {', '.join(repr(name) for name in error.names)}.",
                "Put the latent and everything that depends on it under one scale, or scale observed sites only.",
            ) from error
        except TooManyStatesError as error:
            raise _too_many(error, layout) from error
        layout = DiscreteLayout(layout.sites, computed)
        wrong = check(layout) if check else []
        if not wrong:
            return layout
        for name in wrong:
            _promote(modes, structure, name, (), scanned, picked)


def _weakest(structure: Structure, chained: set[str]) -> dict[str, Mode]:
    return {site.name: Mode.CHAIN if site.name in chained else Mode.ROWS for site in structure.summed}


def _chained(
    fn: Callable[..., Any], structure: Structure, data: dict[str, Any], fixed: dict[str, Any], scanned: set[str]
) -> set[str]:
    """The states of a scan of which a step sees the one before, so that rows for themselves need not be tried.

    What cannot be told from the tables of the steps is left to the trials.
    """
    layout = _layout(structure.summed, _weakest(structure, scanned), _Picked(fn, structure, data, fixed))
    met: set[str] = set()

    def tables(latent: Any, data: Any) -> Any:
        pieces, _ = pieces_of(fn, data, fixed, latent, layout)
        seen = [set(part.axes) for piece in pieces for part in piece.parts or ()]
        met.update(name for name in scanned if any(seen_by >= set(layout.sites[name].axes) for seen_by in seen))
        return [piece.table.array for piece in pieces]

    if scanned:
        latent = {site.name: jax.ShapeDtypeStruct(site.shape, jnp.result_type(float)) for site in structure.latents}
        with contextlib.suppress(CouplingError, ScaleError, TooManyStatesError):
            jax.eval_shape(tables, latent, data)
    return met


class _Picked:
    """For a latent of which every entry of a factor sees one row: which one, by factor, where it is not its own."""

    def __init__(self, fn: Callable[..., Any], structure: Structure, data: dict[str, Any], fixed: dict[str, Any]):
        self.program = fn, structure, data, fixed

    @functools.cached_property
    def links(self) -> Links:
        """Read off the traced program, once."""
        fn, structure, data, fixed = self.program
        sites = [*structure.latents, *structure.summed]
        shapes = {s.name: jax.ShapeDtypeStruct(s.shape, int if s.discrete else float) for s in sites}
        shapes = {n: jax.ShapeDtypeStruct(s.shape, jnp.result_type(s.dtype)) for n, s in shapes.items()}
        rows = {s.name: s.shape for s in structure.summed} | {s.name: () for s in structure.latents}
        return links(lambda latents, given: run(fn, {**given, **fixed}, latents).log_probs, shapes, rows, (data,))

    def __call__(self, name: str) -> dict[str, np.ndarray] | None:
        """`None` where an entry sees several rows."""
        if not self.links.separable(name):
            return None
        found = {factor: rows[name] for factor, rows in self.links.rows.items() if name in rows and factor != name}
        count = int(np.prod(self.links.shapes[name], dtype=int))
        own = np.arange(count).reshape(self.links.shapes[name])
        return {f: np.asarray(i) for f, i in found.items() if i.shape != own.shape or not np.array_equal(i, own)}


def _trial(fn: Any, fixed: dict[str, Any], layout: DiscreteLayout, latent: Any, data: Any) -> Any:
    """Tables and elimination, for their shapes."""
    pieces, scales = pieces_of(fn, data, fixed, latent, layout)
    return [piece.table.array for piece in eliminate(pieces, layout, scales, log_sum, None)]


def _layout(sites: Sequence[Site], modes: dict[str, Mode], picked: "_Picked") -> DiscreteLayout:
    fresh = itertools.count()
    out = {}
    for site in sites:
        assert site.values is not None
        entries = int(np.prod(site.shape, dtype=int))
        count = {Mode.ROWS: 1, Mode.GROUPS: 1, Mode.CHAIN: 2, Mode.EACH: entries}[modes[site.name]]
        axes = tuple(itertools.islice(fresh, count))
        index = picked(site.name) or {} if modes[site.name] is Mode.GROUPS else {}
        out[site.name] = DiscreteSite(site.name, site.values, site.shape, modes[site.name], axes, index)
    return DiscreteLayout(out)


def _promote(
    modes: dict[str, Mode],
    structure: Structure,
    name: str,
    partners: tuple[str, ...],
    scanned: set[str],
    picked: "_Picked",
) -> None:
    """The next weaker assumption for a latent; raises where there is none."""
    site = structure.sites[name]
    assert site.values is not None
    if modes[name] is Mode.ROWS and name in scanned:
        modes[name] = Mode.CHAIN
        return
    if modes[name] is Mode.ROWS and picked(name):
        modes[name] = Mode.GROUPS
        return
    entries = int(np.prod(site.shape, dtype=int))
    states = float(len(site.values)) ** entries
    where = f"Site '{name}', shape {site.shape}, {len(site.values)} values."
    if modes[name] is Mode.EACH or entries == 1:
        raise ModelError(
            f"The log density does not depend on '{name}' in a way that can be followed: tables of the factors and the "
            "program itself disagree.",
            where,
            "Keep the program a fixed function of its sites (no random numbers or state inside). " + REMEDY,
        )
    if states > 2**16:
        by = f" in the density of {', '.join(repr(p) for p in partners)}" if partners else ""
        raise ModelError(
            f"The {entries} entries of '{name}' meet each other{by}, so {states:.3g} joint states would have to be "
            "summed out.",
            where,
            "Let each row of what depends on it see one entry only: its own (the same plate) or one that data pick, "
            f"{name}[group[n]], with no other latent of a plate around it. Write a chain with "
            f"numpyro.contrib.control_flow.scan. {REMEDY}",
        )
    modes[name] = Mode.EACH


def _too_many(error: TooManyStatesError, layout: DiscreteLayout) -> ModelError:
    sites = layout.owners(error.axes)
    sizes = [f"'{site.name}' ({len(site.values)} values{_entries(site, error.axes)})" for site in sites]
    return ModelError(
        f"Summing out the discrete latents needs {error.count:.3g} joint states at once (limit {STATES:.0e}, and less "
        "where there are many rows).",
        f"Sites {', '.join(sizes)}.",
        "Let fewer of them meet in one density. " + REMEDY,
    )


def _entries(site: DiscreteSite, axes: tuple[int, ...]) -> str:
    count = len(set(site.axes) & set(axes))
    return f", {count} entries together" if site.mode is Mode.EACH and count > 1 else ""
