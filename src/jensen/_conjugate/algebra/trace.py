"""From a NumPyro program to its factors as one jaxpr. Nothing here runs eagerly."""

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from linecache import getline
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.core import Tracer
from numpyro import handlers
from numpyro.ops.provenance import eval_provenance
from numpyro.primitives import Messenger

from jensen._base.errors import ModelError, ParameterSites
from jensen._conjugate.algebra.densities.registry import parameters_of
from jensen._conjugate.algebra.edges import check_edges
from jensen._conjugate.algebra.scan import FindScans, Piece, RunScans, Scan, trailing_axes
from jensen._model.parameters import Flat
from jensen._program.analysis import feasible_trace
from jensen._program.number_widths import seeded
from jensen._program.statements import bare, check_shape, is_masked, listed, wrappers
from jensen._program.structure import Plate
from jensen._program.user_code import is_user_file

MAX_ENUMERATED = 56
"""Dimensions for plates and enumerated sites together; NumPy arrays have at most 64."""


@dataclass(frozen=True, eq=False)
class SiteInfo:
    """What the first, abstract run tells about a sample site.

    `values` are those of a discrete latent, which `enum_dim` (negative) enumerates. A site inside a `scan` has time as
    its first axis; `before_dim` enumerates the values that it had one step before. `line` is the user's source line.
    A `point` is learned: its factor is concentrated at one value. An `auxiliary` one was added by
    the analysis. `varies` names the discrete latents that its density holds, where others may share their dimensions.
    """

    name: str
    observed: bool
    distribution: str
    support: Any
    shape: tuple[int, ...]
    batch_shape: tuple[int, ...]
    event_dim: int
    plates: tuple[Plate, ...]
    line: str
    masked: bool = False
    data_key: str | None = None
    values: np.ndarray | None = None
    enum_dim: int = 0
    scan: Scan | None = None
    before_dim: int = 0
    point: bool = False
    auxiliary: bool = False
    varies: frozenset[str] | None = None

    @property
    def where(self) -> str:
        """`Site 'y' (Normal), at model.py line 3: ...`, for messages."""
        return f"Site '{self.name}' ({self.distribution}){', at ' + self.line if self.line else ''}."

    @property
    def base_support(self) -> Any:
        """The support of one entry, without the axes that belong to the event."""
        support = self.support
        while hasattr(support, "base_constraint"):
            support = support.base_constraint
        return support


class _Lines(Messenger):
    """Records the user's source line of every sample statement."""

    def __init__(self, fn: Callable[..., Any], lines: dict[str, str]):
        self.lines = lines
        super().__init__(fn)

    def process_message(self, msg: dict[str, Any]) -> None:
        frame = sys._getframe()
        while frame is not None and not is_user_file(frame.f_code.co_filename):
            frame = frame.f_back
        if frame is not None and msg["type"] == "sample" and not isinstance(msg["fn"], Flat):
            text = getline(frame.f_code.co_filename, frame.f_lineno).strip()
            self.lines[msg["name"]] = f"{Path(frame.f_code.co_filename).name} line {frame.f_lineno}: {text}"


class _Given(Messenger):
    """Gives latent sites their values, enumerated ones included."""

    def __init__(self, fn: Callable[..., Any], values: dict[str, Any]):
        self.values = values
        super().__init__(fn)

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "sample" and not msg["is_observed"] and msg["name"] in self.values:
            msg["value"] = self.values[msg["name"]]


def find_sites(fn: Callable[..., Any], kwargs: dict[str, Any]) -> dict[str, SiteInfo]:
    """The sample sites in the order of the program. To be called while tracing, with `kwargs` traced."""
    lines: dict[str, str] = {}
    scans = FindScans(_Lines(fn, lines))
    trace = feasible_trace(scans, kwargs)
    for site in trace.values():
        _check_statement(site, lines.get(site["name"], ""))
    sites = {}
    samples = [site for site in trace.values() if site["type"] == "sample"]
    check_edges(fn, kwargs, samples, lines)
    depth = max(
        (max(len(s["fn"].batch_shape), *(-f.dim for f in s["cond_indep_stack"]), 0) for s in samples), default=0
    )
    keys = {id(v): k for k, v in kwargs.items()}
    points = getattr(fn, "points", frozenset())
    for site in samples:
        _check_arguments(site, lines.get(site["name"], ""))
        info = _site_info(site, lines.get(site["name"], ""), keys.get(id(site["value"])))
        scan = next((scan for scan in scans.scans if info.name in scan.names), None)
        info = dataclasses.replace(info, scan=scan, point=info.name in points)
        if not info.observed and getattr(info.support, "is_discrete", False):
            depth += 1 if scan is None else 2
            before = 0 if scan is None else 1 - depth
            info = dataclasses.replace(info, values=_values(info, site["fn"]), enum_dim=-depth, before_dim=before)
        sites[info.name] = info
    if depth > MAX_ENUMERATED:
        sites = _sharing(fn, sites, kwargs)
    if not any(not s.observed for s in sites.values()):
        raise ModelError("The model has no latent sites, so there is nothing to infer.")
    return sites


def _sharing(fn: Callable[..., Any], sites: dict[str, SiteInfo], kwargs: dict[str, Any]) -> dict[str, SiteInfo]:
    """The sites with one dimension for discrete latents that no density holds together: steps t and t + 2 of a chain.

    The dimensions are colours of the graph that joins latents of one density, chosen greedily in the order of the
    program; latents of differing numbers of values never share.
    """
    kinds = {True: jnp.result_type(int), False: jnp.result_type(float)}
    latents = {
        s.name: jax.ShapeDtypeStruct(s.shape, kinds[s.values is not None]) for s in sites.values() if not s.observed
    }

    def terms(**values: Any) -> dict[str, Any]:
        trace = handlers.trace(handlers.substitute(seeded(fn), data=values)).get_trace(**kwargs)
        return {name: trace[name]["fn"].log_prob(trace[name]["value"]) for name in sites}

    listed = {s.name: s for s in sites.values() if s.values is not None}
    found = eval_provenance(terms, **latents)
    together = {name: frozenset(found[name]) & frozenset(listed) for name in sites}
    start = max(max(len(s.batch_shape), *(-p.dim for p in s.plates), 0) for s in sites.values())
    dims: dict[str, int] = {}
    for name, site in listed.items():
        near = frozenset().union(*(group for group in together.values() if name in group))
        taken = {dims[n] for n in dims if n in near or len(listed[n].values) != len(site.values)}  # type: ignore[arg-type]
        dims[name] = next(d for d in range(start + 1, start + len(listed) + 2) if d not in taken)
        if dims[name] > MAX_ENUMERATED or site.scan is not None:
            widest = max(together, key=lambda n: len(together[n]))
            raise ModelError(
                f"The density of '{widest}' holds {len(together[widest])} of the {len(listed)} discrete latents at "
                f"once, and an array has {MAX_ENUMERATED} dimensions for these and for plates.",
                sites[widest].where,
                "Put sites that do the same into a plate, write chains with numpyro.contrib.control_flow.scan, or let "
                "fewer of them enter one density.",
            )
    return {
        name: dataclasses.replace(site, enum_dim=-dims.get(name, 0), varies=together[name])
        for name, site in sites.items()
    }


def _check_statement(site: dict[str, Any], line: str) -> None:
    where = f"{site['type'].capitalize()} '{site['name']}'{', at ' + line if line else ''}."
    if site["type"] == "param":
        raise ParameterSites(site["name"], where)
    if site["type"] == "plate" and site["args"][1] not in (None, site["args"][0]):
        raise ModelError(
            f"Plate '{site['name']}' subsamples {site['args'][1]} of {site['args'][0]} rows.",
            where,
            "Write the model for the full data, without subsample_size.",
        )
    latent = site["type"] == "sample" and not site["is_observed"]
    if latent and site["scale"] is not None and not getattr(site["fn"].support, "is_discrete", False):
        raise ModelError(
            f"The latent '{site['name']}' is under handlers.scale, which leaves open how many latents there are.",
            where,
            "Scale observed and discrete sites only (a discrete latent then stands for so many copies), or repeat the "
            "rows.",
        )


def _check_arguments(site: dict[str, Any], line: str) -> None:
    """Raise for parameters that are known now and lie outside their domain; nothing is compiled for it."""
    fn = bare(site["fn"])
    for name, value in fn.get_args().items():
        constraint = fn.arg_constraints[name]
        if isinstance(value, Tracer) or dist.constraints.is_dependent(constraint):
            continue
        if not np.all(constraint(np.asarray(value))):
            raise ModelError(
                f"The parameter '{name}' of '{site['name']}' is outside its domain ({constraint}).",
                f"Site '{site['name']}' ({type(fn).__name__}){', at ' + line if line else ''}.",
                "Correct the value given in the model or in the data.",
            )


_DESCRIBED = {dist.Unit: "factor", Flat: "learned"}


def _site_info(site: dict[str, Any], line: str, data_key: str | None) -> SiteInfo:
    fn = site["fn"]
    base = bare(fn)
    if site["is_observed"] and not isinstance(base, dist.Unit):
        check_shape(site, data_key, line)
    plates = tuple(sorted((Plate(f.name, f.dim, f.size) for f in site["cond_indep_stack"]), key=lambda p: p.dim))
    return SiteInfo(
        site["name"],
        site["is_observed"],
        _DESCRIBED.get(type(base), type(base).__name__),
        None if isinstance(base, dist.Unit) else fn.support,
        jnp.shape(site["value"]),
        tuple(fn.batch_shape),
        fn.event_dim,
        plates,
        line,
        is_masked(fn),
        data_key,
    )


def _values(info: SiteInfo, fn: Any) -> np.ndarray:
    """The values of a discrete latent, on the host."""
    if info.event_dim:
        raise ModelError(
            f"The discrete latent '{info.name}' has an event shape {info.shape[-info.event_dim :]}.",
            info.where,
            "Sample it inside a numpyro.plate instead of with to_event or a vector-valued distribution.",
        )
    support = info.base_support
    low, high = getattr(support, "lower_bound", 0), getattr(support, "upper_bound", None)
    if isinstance(low, (int, np.integer)) and isinstance(high, (int, np.integer)):
        return np.arange(low, high + 1)
    values = listed(fn)
    if values is None:
        raise ModelError(
            f"The values of the discrete latent '{info.name}' cannot be listed: its support is {info.support}.",
            info.where,
            "Use a distribution of finite support with a fixed number of values, or marginalise it by hand.",
        )
    return values


@dataclass(frozen=True, eq=False)
class FactorTrace:
    """One site's factor: its arrays by role, and the wrappers around its density, innermost first."""

    parameters: dict[str, Any]
    value: Any
    scale: Any
    masks: tuple[Any, ...]


@dataclass(frozen=True)
class Wrapper:
    """`mask`: multiply; `event`: sum the last `count` axes; `batch`: broadcast to `shape`."""

    kind: str
    count: int = 0
    shape: tuple[int, ...] = ()


def trace_factors(
    fn: Callable[..., Any], sites: dict[str, SiteInfo], kwargs: dict[str, Any]
) -> tuple[Any, list[Any], dict[str, Piece], Any]:
    """(jaxpr, data leaves, pieces by name, output tree) of the program with latents as inputs.

    Inputs of the jaxpr are the continuous latents in order, then the leaves of `kwargs`.
    """
    continuous = [s for s in sites.values() if not s.observed and s.values is None]
    listed = [s for s in sites.values() if s.values is not None]
    scans = list({id(s.scan): s.scan for s in sites.values() if s.scan is not None}.values())
    pieces: dict[str, Piece] = {}
    arrays = {k: v for k, v in kwargs.items() if _is_array(v)}
    other = {k: v for k, v in kwargs.items() if k not in arrays}

    def factors(latents: list[Any], data: dict[str, Any]) -> dict[str, Any]:
        current = {s.name: _on_axis(s.values, s.enum_dim) for s in listed}
        before = {s.name: _on_axis(s.values, s.before_dim) for s in listed if s.scan is not None}
        values = {**current, **dict(zip(_names(continuous), latents, strict=True))}
        program = _Given(seeded(fn), values)
        out = {}
        if scans:
            shapes = {s.name: s.shape for s in listed}
            program = RunScans(program, scans, values, current, before, shapes, _described, _Given)
        for site in handlers.trace(program).get_trace(**data, **other).values():
            if site["type"] == "sample":
                out[site["name"]], cls, wrappers, _ = _described(site)
                pieces[site["name"]] = Piece(site["name"], cls, wrappers)
        for name, (factor, piece) in program.found.items() if isinstance(program, RunScans) else ():
            out[name], pieces[name] = factor, piece
        return out

    shapes = [jax.ShapeDtypeStruct(s.shape, jnp.result_type(float)) for s in continuous]
    closed, out_shape = jax.make_jaxpr(factors, return_shape=True)(shapes, arrays)
    return closed, jax.tree.leaves(arrays), pieces, jax.tree.structure(out_shape)


def _on_axis(values: Any, dim: int) -> Any:
    """The listed values of a discrete latent along an axis of their own."""
    return jnp.asarray(values.reshape((-1, *([1] * (-dim - 1)))))


def _described(site: dict[str, Any]) -> tuple[dict[str, Any], type, tuple[Wrapper, ...], dict[str, Any]]:
    """(arrays by role, density class, wrappers, trailing axes of every array) of one site of a trace."""
    factor, (cls, around) = _factor(site)
    return vars(factor), cls, around, trailing_axes(site, vars(factor), around, bare(site["fn"]))


def _names(sites: list[SiteInfo]) -> list[str]:
    return [s.name for s in sites]


def _is_array(value: Any) -> bool:
    leaves = jax.tree.leaves(value)
    return bool(leaves) and all(isinstance(leaf, jax.Array) for leaf in leaves)  # what is fixed is NumPy's


def _factor(site: dict[str, Any]) -> tuple[FactorTrace, tuple[Any, tuple[Wrapper, ...]]]:
    fn, around, masks = bare(site["fn"]), [], []
    inner_event = []
    for one in wrappers(site["fn"]):
        if isinstance(one, dist.Independent):
            around.append(Wrapper("event", count=one.reinterpreted_batch_ndims))
        elif isinstance(one, dist.ExpandedDistribution):
            around.append(Wrapper("batch", shape=tuple(one.batch_shape)))
        else:
            around.append(Wrapper("mask"))
            masks.append(jnp.asarray(one._mask))
            inner_event.append(one.event_dim)
    value = site["value"]
    if site["is_observed"]:
        for mask, event_dim in zip(masks, inner_event, strict=True):
            value = _safe(value, mask, event_dim, fn.support)
    parameters = parameters_of(fn)
    if isinstance(fn, dist.Unit):
        parameters, value = {"log_prob": fn.log_factor}, jnp.zeros(())
    elif parameters is None:
        parameters = {"log_prob": fn.log_prob(value)}
    factor = FactorTrace(parameters, value, site["scale"], tuple(masks[::-1]))
    batch = Wrapper("batch", shape=tuple(site["fn"].batch_shape))
    return factor, (type(fn), (*around[::-1], batch))


def _safe(value: Any, mask: Any, event_dim: int, support: Any) -> Any:
    """The observed value with a harmless point of the support where it is masked: 0 · NaN would be NaN."""
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    wide = mask.reshape(mask.shape + (1,) * event_dim)
    return jnp.where(wide, value, support.feasible_like(value))
