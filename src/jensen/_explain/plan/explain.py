"""From a model to its plan: what every site becomes, and what the default method will do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from numpyro.distributions import biject_to

from jensen._auto.auto import Auto
from jensen._auto.target import AutoTarget, black_box
from jensen._base.alone import alone
from jensen._base.errors import DataError, ModelError, ParameterSites
from jensen._blackbox.recipes import planned
from jensen._core import Step, sentences
from jensen._data.sources import AbstractSource
from jensen._explain.equations.render import Equations, equations
from jensen._explain.plan.plan import Plan, Row
from jensen._explain.plan.words import describe_chart, describe_support
from jensen._families.native import native_product
from jensen._gaussian.escalation import movable_sites
from jensen._math.precision import default_precision
from jensen._model import Site, Structure, Target, build
from jensen._model.build import with_dependencies
from jensen._model.door import opened
from jensen._model.native import NativeTarget
from jensen._model.parameters import Opened, find_parameters
from jensen._program.contract import AbstractProgram
from jensen._program.indices import checked
from jensen._program.programs import as_program
from jensen._program.purity import repeatable


def _learned(row: Row) -> Row:
    """The row of a parameter: a point, in spite of the latent that stands for it in the analysis."""
    return replace(row, kind="learned", distribution="-", update="maximised with q: a point estimate, no posterior")


@alone()
def explain(
    model: Callable[..., Any] | AbstractProgram, data: Mapping[str, Any] | AbstractSource | None = None
) -> Plan:
    """What jensen sees in a model: sites, supports, plates, dependencies, what `method="auto"` will do, its equations.

    For every conjugate block these are its complete conditional and its coordinate update in the usual parameters, each
    term with the site that it comes from; for what is not conjugate, the term, the source line and the remedy.
    `equations.updates` holds the same equations as expressions that `values` in `_explain.equations.update` evaluates.

    Of a source of batches the first one is shown.

    jensen compiles and evaluates nothing here; NumPyro may check the constant parameters of a distribution. Raises the
    errors that `jn.fit` raises before it compiles.

    Example:
        >>> import jensen as jn, numpyro, numpyro.distributions as dist
        >>> def model(y):
        ...     mu = numpyro.sample("mu", dist.Normal(0, 10))
        ...     numpyro.sample("y", dist.Normal(mu, 1), obs=y)
        >>> plan = jn.explain(model, {"y": [1.0, 2.0, 3.0]})
        >>> plan.dim, [row.site for row in plan.rows]
        (1, ['mu', 'y'])
    """
    data = opened(model, data, default_precision())
    if isinstance(data, AbstractSource):
        data = data.example().arguments
    if not isinstance(model, Opened):
        model, _ = repeatable(model, data, default_precision(), evaluable=False)
    program = as_program(model)
    plain, function, name = not program.handled, program.fn, program.name
    data = checked(model, data, default_precision())
    try:
        target = build(model, data, default_precision(), evaluable=False)
    except ParameterSites:  # learned parameters are shown as blocks with a flat prior
        learned = Opened(function, find_parameters(function, data))
        plan = explain(learned, data)
        return replace(plan, rows=tuple(_learned(row) if row.site in learned.points else row for row in plan.rows))
    except ModelError as error:
        found = None if plain or not callable(model) else _equations(model, data)
        discrete = {s.name for s in found.derivation.sites.values() if s.values is not None} if found else set()
        if found is None or not discrete or any(o.site in discrete for o in found.obstacles):
            return _black_box_plan(name, *black_box(model, data, default_precision(), error, evaluable=False), found)
        return _discrete_plan(name, found)
    structure = with_dependencies(target)
    if plain and not structure.observed:
        structure = _with_density(structure)
    moved = movable_sites(target)
    rows = tuple(_row(site, site.name in moved) for site in structure.sites.values())
    observations = (
        _data_rows(target) if plain and not structure.observed else sum(_batch(site) for site in structure.observed)
    )
    found = None if plain else _equations(model, data)
    blocks = len(found.updates) if found is not None and found.conjugate else 0
    steps = Auto().steps(AutoTarget(None, target), blocks, program.starts is not None)
    if found is not None and blocks:
        rows = tuple(_with_factor(row, found, any(step.parts for step in steps)) for row in rows)
    return Plan(name, rows, structure.dim, observations, (*sentences(steps), *_verdict(steps)), structure, found)


def _verdict(steps: tuple[Step, ...]) -> tuple[str, ...]:
    """What every fit ends with."""
    test = " and a Hamiltonian test" if any(step.parts for step in steps) else ""
    return (f"A verdict on the result from importance weights{test}; see fit.check().",)


def _with_factor(row: Row, found: Equations, compared: bool) -> Row:
    """The row with its factor of coordinate ascent before what a Gaussian would do."""
    own = [b for b in found.blocks if row.kind == "latent" and row.site in b.name.split("+")]
    if not own:
        return row
    factor = own[0].head.partition("= ")[2]
    return replace(row, update=f"{factor}, updated exactly" + (f"; or {row.update}" if compared else ""))


def _equations(model: Any, data: Mapping[str, Any] | None) -> Equations | None:
    """The equations, or `None` where the program cannot be read (the Gaussian methods may still be able to)."""
    try:
        return equations(model, data)
    except (ModelError, DataError):
        return None


def _discrete_plan(name: str, found: Equations) -> Plan:
    """The plan of a model with discrete latents, which coordinate ascent analyses."""
    parents: dict[str, dict[str, None]] = {site: {} for site in found.derivation.sites}
    for entry in found.derivation.terms:
        parents[entry.site] |= dict.fromkeys(a.site for a in entry.term.atoms if a.site != entry.site)
    sites = {}
    for site in found.derivation.sites.values():
        kind = "factor" if site.distribution == "factor" else "observed" if site.observed else "latent"
        shape = () if kind != "latent" or site.values is not None else biject_to(site.support).inverse_shape(site.shape)
        base = "Factor" if kind == "factor" else site.distribution
        depends = tuple(n for n in found.derivation.sites if n in parents[site.name])
        what = (site.name, kind, base, site.support, site.shape, site.event_dim, site.plates)
        sites[site.name] = Site(*what, shape, depends, site.masked, site.data_key)
    structure = Structure(sites, {p.name: p for s in sites.values() for p in s.plates})
    discrete = {s.name: s for s in found.derivation.sites.values() if s.values is not None}
    rows = []
    for site in sites.values():
        row = _row(site)
        if site.name in discrete:
            row = replace(row, update=f"discrete, {len(discrete[site.name].values)} values: a categorical factor")  # type: ignore[arg-type]
        elif site.kind == "latent":
            own = [b for b in found.blocks if site.name in b.name.split("+")]
            row = replace(row, update=own[0].head.partition("= ")[2] if own else "not conjugate")
        rows.append(row)
    dim = sum(s.size for s in sites.values() if s.kind == "latent" and s.name not in discrete)
    count = sum(_batch(site) for site in structure.observed)
    method = sentences(Auto().steps(AutoTarget(None, None), max(len(found.blocks), 1)))
    return Plan(name, tuple(rows), dim, count, method, structure, found)


def _black_box_plan(name: str, target: NativeTarget, why: str, found: Equations | None) -> Plan:
    """The plan of a model that only black-box VI takes."""
    structure = with_dependencies(target)
    if target.model.source is None:
        structure = _with_density(structure)
    factors = native_product(target.structure.latents).factors
    rows = tuple(
        replace(_row(site), update=planned(factors[site.name], target.differentiable))
        if site.name in factors
        else _row(site)
        for site in structure.sites.values()
    )
    dim = sum(site.size for site in structure.latents if not site.discrete)
    observations = sum(_batch(site) for site in structure.observed)
    steps = Auto().steps(AutoTarget(None, None, target, why))
    method = (*sentences(steps), *_verdict(steps))
    return Plan(name, rows, dim, observations, method, structure, found)


def _with_density(structure: Structure) -> Structure:
    """A log density has one term, which depends on everything."""
    parents = tuple(site.name for site in structure.latents)
    density = Site("log_density", "factor", "LogDensity", None, (), 0, (), parents=parents)
    return Structure({**structure.sites, "log_density": density}, structure.plates)


def _row(site: Site, movable: bool = False) -> Row:
    plates = tuple(f"{plate.name}[{plate.size}]" for plate in site.plates)
    support = describe_support(site.support) if site.kind == "latent" else "-"
    given = "-" if site.distribution in ("LogDensity", "Deterministic", "Factor") else site.distribution
    return Row(site.name, site.kind, given, support, site.shape, plates, site.parents, _update(site, movable))


def _summing(site: Site) -> str:
    if site.values is None:
        return "discrete: summed out of the joint exactly"
    states = f"{len(site.values)} states"
    if site.scanned:
        return f"summed out exactly: {states}, by forward-backward over {site.shape[0]} steps"
    rows = "".join(f" for each {plate.name}" for plate in site.plates[:1])
    return f"summed out exactly: {states}{rows}"


def _update(site: Site, movable: bool) -> str:
    if site.kind == "latent" and getattr(site.support, "is_discrete", False):
        return _summing(site)
    if site.kind == "latent":
        count = f"{site.size} coordinate{'s' * (site.size != 1)}"
        chart = describe_chart(site.support)
        return f"Gaussian on the unconstrained space: {chart}, {count}" + (", or non-centred" if movable else "")
    if site.kind == "observed":
        key = f" (data key '{site.data_key}')" if site.data_key else ""
        return f"observed{key}{', partly masked' if site.masked else ''}"
    if site.kind == "factor":
        return "added to the log joint"
    return "computed from the draws"


def _batch(site: Site) -> int:
    return int(np.prod(site.shape[: len(site.shape) - site.event_dim], dtype=int))


def _data_rows(target: Target) -> int:
    sizes = [leaf.shape[0] for leaf in jax.tree.leaves(target.model) if np.ndim(leaf)]
    return max(sizes, default=0)
