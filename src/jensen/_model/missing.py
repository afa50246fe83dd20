"""NaN in the data: refused where it reaches the density, accepted where the model fills or leaves it out."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal
from numpyro import handlers
from numpyro.distributions import biject_to

from jensen._core import total
from jensen._data.data_check import Place, missing, refuse_missing
from jensen._program.analysis import feasible, traced
from jensen._program.contract import AbstractProgram
from jensen._program.nan_comparisons import refuse_compared, refuse_taken
from jensen._program.number_widths import seeded
from jensen._program.static_arguments import Frozen
from jensen._program.structure import Site, Structure

LINEAR = frozenset(
    ["abs", "add", "add_any", "broadcast_in_dim", "concatenate", "convert_element_type", "copy", "cumsum", "mul", "neg",
     "reduce_sum", "reshape", "square", "squeeze", "sub", "transpose"]
)  # fmt: skip
"""Operations whose result holds a value that is not finite wherever an operand does."""
PASSING = LINEAR | frozenset(
    ["cos", "div", "dot_general", "erf", "exp", "expm1", "integer_pow", "lgamma", "log", "log1p", "logistic", "rsqrt",
     "sin", "sqrt", "tanh"]
)  # fmt: skip
"""Operations whose result holds NaN wherever an operand does."""
POINTS = 3
"""Points of the unconstrained space at which the density is evaluated."""


def check_filled(program: AbstractProgram, structure: Structure, arrays: dict[str, Any], fixed: Frozen) -> None:
    """Raise for NaN in any array except those observed at masked sites and those that the model replaces itself.

    What is observed as it is, or added up without a choice, is refused at once. For any other array the log density
    and its gradient are evaluated at a few points of the unconstrained space: numbers are the sign that no NaN reaches
    them.
    """
    arguments = {**arrays, **fixed.value}
    observed = {site.data_key for site in structure.observed if not site.masked}
    keys = missing(arguments, {site.data_key for site in structure.observed if site.masked} - observed)
    for key in keys:
        if key in observed:
            refuse_missing(arguments, key)
    if not keys:
        return
    density = _program(program.fn) if program.handled else _plain(program, structure.latents)
    for key in keys:
        if _surely_reached(density, arrays, fixed.value, key):
            refuse_missing(arguments, key)
    value, gradient = _is_number(density, arrays, fixed.value)
    if value and gradient:
        _check_compared(density, arrays, fixed.value, keys)
        return
    for key in keys:
        others = [one for one in keys if one != key]
        value, gradient = _is_number(density, _zeroed(arrays, others), _zeroed(fixed.value, others))
        if not (value and gradient):
            refuse_missing(arguments, key, gradient_only=value)
    refuse_missing(arguments, keys[0])


def check_compared(
    fn: Callable[..., Any],
    arrays: dict[str, Any],
    fixed: dict[str, Any],
    masked: set[Any],
    place: Place | None = None,
) -> None:
    """Raise where a program whose log density is a number takes NaN of the data for numbers."""
    keys = missing({**arrays, **fixed}, masked)
    if keys:
        _check_compared(_program(fn), arrays, fixed, keys, place)


def _check_compared(
    density: Any, arrays: dict[str, Any], fixed: dict[str, Any], keys: list[str], place: Place | None = None
) -> None:
    points = _points(density[0], arrays, fixed)
    first = {name: values[0] for name, values in points.items()}
    closed = jax.make_jaxpr(lambda given, u: density[1](u, {**given, **fixed}))(arrays, first)
    refuse_compared(closed, arrays, points, keys, place)

    def trace(held: dict[str, Any]) -> Any:
        return jax.make_jaxpr(lambda u: density[1](u, {**arrays, **held}))(first)

    refuse_taken(trace, fixed, jax.tree.leaves(points), keys, place)


def _is_number(density: Any, arrays: dict[str, Any], fixed: dict[str, Any]) -> tuple[bool, bool]:
    """Whether (the log density, its gradient) are finite at some of a few points, and NaN at none."""
    value, points = density[1], _points(density[0], arrays, fixed)

    def at(given: dict[str, Any], point: dict[str, Any]) -> Any:
        return jax.value_and_grad(lambda u: jnp.asarray(value(u, {**given, **fixed}), float))(point)

    found, slopes = jax.device_get(jax.jit(jax.vmap(at, (None, 0)))(arrays, points))
    flat = [np.reshape(slope, (POINTS, -1)) for slope in jax.tree.leaves(slopes)]
    bad = [np.isnan(one[np.isfinite(found)]).any() for one in flat]
    return bool(np.isfinite(found).any() and not np.isnan(found).any()), not any(bad)


def _points(shapes: Any, arrays: dict[str, Any], fixed: dict[str, Any]) -> dict[str, np.ndarray]:
    rng, kind = np.random.default_rng(0), jnp.result_type(float)
    latents = traced(lambda given: shapes({**given, **fixed}), arrays)
    return {name: (0.5 * rng.normal(size=(POINTS, *shape))).astype(kind) for name, shape in latents.items()}


def _surely_reached(density: Any, arrays: dict[str, Any], fixed: dict[str, Any], key: str) -> bool:
    """Whether a NaN of this array makes the log density NaN or infinite by operations that let none drop."""
    point = {name: values[0] for name, values in _points(density[0], arrays, fixed).items()}
    closed = jax.make_jaxpr(lambda given, u: density[1](u, {**given, **fixed}))(arrays, point)
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(arrays)]
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path in paths]
    held = {v: "nan" for v, name in zip(closed.jaxpr.invars, names, strict=False) if name == key}
    return bool(_reached(closed.jaxpr, held))


def _reached(jaxpr: Any, known: dict[Any, str]) -> str:
    """What the first result holds, given that of other variables: somewhere "nan", somewhere "some" value that is not
    finite, "all" entries infinite, or "" for anything.

    NumPyro's densities are infinite outside of the support: a choice between two values that are not finite is none.
    """

    def held(atom: Any) -> str:
        if isinstance(atom, Literal):
            return "all" if np.ndim(atom.val) == 0 and np.isinf(np.asarray(atom.val, float)) else ""
        return known.get(atom, "")

    for eqn in jaxpr.eqns:
        name, given = eqn.primitive.name, [held(v) for v in eqn.invars]
        inner = next((eqn.params[k] for k in ("jaxpr", "call_jaxpr") if k in eqn.params), None)
        out = ""
        if not any(given) or len(eqn.outvars) != 1 or not jnp.issubdtype(eqn.outvars[0].aval.dtype, jnp.inexact):
            continue
        if inner is not None and name not in ("scan", "while"):
            inner = getattr(inner, "jaxpr", inner)
            out = _reached(inner, dict(zip(inner.invars, given, strict=True)))
        elif name == "select_n":
            cases = given[1:]
            alike = all(cases) and cases.count("all") >= len(cases) - 1
            out = "all" if set(cases) == {"all"} else "some" if alike else ""
        elif name in PASSING and "nan" in given:
            out = "nan"
        elif name in ("broadcast_in_dim", "convert_element_type", "reshape", "neg") and given[0] == "all":
            out = "all"
        elif name in LINEAR:
            out = "some"
        known[eqn.outvars[0]] = out
    return held(jaxpr.outvars[0])


def _program(fn: Callable[..., Any]) -> Any:
    """(shapes of the unconstrained latents, log density of the program at such values)."""

    def run(kwargs: dict[str, Any], place: Callable[[dict[str, Any]], Any]) -> Any:
        return handlers.trace(handlers.substitute(seeded(fn), substitute_fn=place)).get_trace(**kwargs)

    def shapes(kwargs: dict[str, Any]) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {}

        def place(site: dict[str, Any]) -> Any:
            value = feasible(site)
            if value is not None and not site["fn"].support.is_discrete:
                found[site["name"]] = biject_to(site["fn"].support).inverse_shape(site["fn"].shape())
            return value

        run(kwargs, place)
        return found

    def value(point: dict[str, Any], kwargs: dict[str, Any]) -> Any:
        def place(site: dict[str, Any]) -> Any:
            if site["name"] in point and site["type"] == "sample":
                return biject_to(site["fn"].support)(point[site["name"]])
            return feasible(site)

        sites = run(kwargs, place).values()
        return sum(jnp.sum(s["fn"].log_prob(s["value"])) for s in sites if s["type"] == "sample")

    return shapes, value


def _plain(program: AbstractProgram, latents: list[Site]) -> Any:
    """The same for a program in another language."""
    smooth = {site.name: site for site in latents if not site.discrete}
    low = {s.name: jnp.zeros(s.shape, int) + getattr(s.support, "lower_bound", 0) for s in latents if s.discrete}

    def value(point: dict[str, Any], kwargs: dict[str, Any]) -> Any:
        latent = {**low, **{n: biject_to(smooth[n].support)(u) for n, u in point.items()}}
        return total(program.log_joint(latent, kwargs))

    return lambda kwargs: {name: site.unconstrained_shape for name, site in smooth.items()}, value


def _zeroed(arguments: Mapping[str, Any], keys: list[str], prefix: str = "") -> dict[str, Any]:
    """The arguments with numbers in the place of NaN in these arrays."""
    return {
        name: _zeroed(value, keys, f"{prefix}{name}.")
        if isinstance(value, Mapping)
        else np.nan_to_num(value)
        if f"{prefix}{name}" in keys
        else value
        for name, value in arguments.items()
    }
