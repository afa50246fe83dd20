"""The structural check: at a point, the expected log joint of a q concentrated there is NumPyro's own log joint.

It exercises the trace, the enumeration, plates, masks, scales, every primitive rule and every density at once, and it
runs on every model before the first update.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.distributions import biject_to

from jensen._base.errors import DataError, ModelError
from jensen._conjugate.algebra.energy import Energy, Lookup, at_point
from jensen._conjugate.algebra.terms import Atom, Map
from jensen._conjugate.algebra.trace import SiteInfo
from jensen._program.number_widths import seeded
from jensen._program.on_host import HostProgram
from jensen._program.statements import log_prob, wrappers
from jensen._program.user_code import blame

SEEDS = (11, 12)


class SelfCheck:
    """The check of one program at the shapes of its arguments; traced once, run on every data set."""

    def __init__(
        self,
        fn: Callable[..., Any],
        energy: Callable[[dict[str, Any], dict[str, Any]], Energy] | None,
        sites: dict[str, SiteInfo],
        fixed: dict[str, Any],
    ):
        self.fn, self.sites, self.fixed = fn, sites, fixed

        def program(given: Energy | None, arrays: dict[str, Any], noise: dict[str, Any], seed: Any) -> Any:
            def at(values: dict[str, Any]) -> Energy:
                return energy(arrays, values) if energy is not None else given  # type: ignore[return-value]

            trace = _traced(fn, sites, {**arrays, **fixed}, noise, seed)
            return outside_supports(trace, sites), _compare(trace, at, sites)

        self.program = HostProgram(program)

    def run(self, energy: Energy | None, arrays: dict[str, Any]) -> None:
        """Compare site by site at two random points; raise a `ModelError` that names the first site that differs, and
        a `DataError` for values observed outside their distribution's support.

        NumPy looks first, at any states of the discrete latents. What it finds apart is compiled and judged again, at
        states that the program has drawn: no word is said on NumPy's account, or of states that cannot be.
        """
        for seed in SEEDS:
            if self._holds(energy, arrays, seed):
                continue
            try:
                self._judge(jax.device_get(self.program(energy, arrays, _noise(self.sites, seed), seed)))
            except TypeError as error:  # NumPyro's densities want whole numbers for categories: say which value is none
                SupportCheck(self.fn, self.sites, self.fixed).run(arrays)
                raise blame(error, self.fn, {**arrays, **self.fixed}) from error

    def _holds(self, energy: Energy | None, arrays: dict[str, Any], seed: int) -> bool:
        given = _noise(self.sites, seed) | _states(self.sites, seed)
        try:
            self._judge(self.program.on_host(energy, arrays, given, seed))
        except Exception:  # which is met again, if there is anything to it
            return False
        return True

    def _judge(self, result: Any) -> None:
        # Rounding of the expanded squares: relative to the sum of the terms' absolute values, not to the result.
        tolerance = 1e-9 if jnp.result_type(float) == jnp.float64 else 1e-4
        outside, (found, expected, size) = result
        check_supports(self.sites, outside)
        for name in expected:
            with np.errstate(invalid="ignore"):
                gap = abs(found[name] - expected[name])
            if not gap <= tolerance * (1.0 + size[name]):
                raise _mismatch(self.sites[name], float(found[name]), float(expected[name]))


def self_check(
    fn: Callable[..., Any],
    energy: Callable[[dict[str, Any], dict[str, Any]], Energy],
    sites: dict[str, SiteInfo],
    arrays: dict[str, Any],
    fixed: dict[str, Any],
) -> None:
    """The structural check of an energy that is a function of (data arrays, values of the latents), some of which are
    taken as known.
    """
    SelfCheck(fn, energy, sites, fixed).run(None, arrays)


class SupportCheck:
    """Whether the observed values lie in their distributions' supports; traced once, run on every data set."""

    def __init__(self, fn: Callable[..., Any], sites: dict[str, SiteInfo], fixed: dict[str, Any]):
        self.sites = sites

        def program(arrays: dict[str, Any], noise: dict[str, Any], seed: Any) -> dict[str, Any]:
            return outside_supports(_traced(fn, sites, {**arrays, **fixed}, noise, seed), sites)

        self.program = HostProgram(program)

    def run(self, arrays: dict[str, Any]) -> None:
        """Raise a `DataError` naming site and row for values observed outside their distribution's support."""
        check_supports(self.sites, self.program.on_host(arrays, _noise(self.sites, SEEDS[0]), SEEDS[0]))


def _noise(sites: dict[str, SiteInfo], seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    continuous = [s for s in sites.values() if not s.observed and s.values is None]
    return {s.name: 0.3 * rng.normal(size=biject_to(s.support).inverse_shape(s.shape)) for s in continuous}


def _states(sites: dict[str, SiteInfo], seed: int) -> dict[str, np.ndarray]:
    """Values of the discrete latents."""
    rng = np.random.default_rng(seed)
    discrete = [s for s in sites.values() if not s.observed and not s.auxiliary and s.values is not None]
    return {s.name: rng.choice(np.asarray(s.values), s.shape) for s in discrete}


def _traced(
    fn: Callable[..., Any], sites: dict[str, SiteInfo], kwargs: dict[str, Any], noise: dict[str, Any], seed: Any
) -> dict[str, Any]:
    """The program's trace at the point that the noise gives; discrete latents without a value are drawn."""
    point = {name: jnp.asarray(u) for name, u in noise.items()}
    point |= {name: biject_to(sites[name].support)(u) for name, u in point.items() if sites[name].values is None}
    return handlers.trace(handlers.substitute(seeded(fn, jax.random.key(seed)), data=point)).get_trace(**kwargs)


def _compare(
    trace: dict[str, Any], energy_at: Callable[[dict[str, Any]], Energy], sites: dict[str, SiteInfo]
) -> tuple[dict[str, Any], ...]:
    """(value of the algebra, NumPyro's log density, Σ |terms|) by site."""
    values = {name: trace[name]["value"] for name, site in sites.items() if not site.observed and not site.auxiliary}
    expected = {name: jnp.sum(log_prob(site)) for name, site in trace.items() if site["type"] == "sample"}
    kinds = {name: site.values for name, site in sites.items() if site.values is not None}
    energy = energy_at(values)
    lookup = _with_shares(at_point(values, kinds), energy, [site for site in sites.values() if site.auxiliary])
    found, size = {}, {}
    for name in expected:
        parts = [energy(lookup, [t]) for t in energy.terms if t.site == name]
        found[name] = sum(parts, start=jnp.zeros(()))
        size[name] = sum((jnp.abs(p) for p in parts), start=jnp.zeros(()))
    return found, expected, size


def _with_shares(lookup: Lookup, energy: Energy, sites: Sequence[SiteInfo]) -> Lookup:
    """The lookup with latents that the analysis added at their optimum given all others: log Σ r, with shares r / Σ r.

    The energy is linear in their indicators, with derivatives w log r, and in their entropies, with derivatives w.
    """
    if not sites:
        return lookup

    def seen(moments: dict[str, Any]) -> Lookup:
        def find(atoms: Sequence[Atom]) -> list[tuple[Any, tuple[Map, ...]]]:
            return [(moments[a.site][a.stat.kind], a.maps) if a.site in moments else lookup([a])[0] for a in atoms]

        return find

    def total(moments: dict[str, Any]) -> Any:
        terms = [t for t in energy.terms if any(a.site in moments for a in t.term.atoms)]
        return energy(seen(moments), terms)

    zeros = {
        s.name: {"indicator": jnp.zeros((len(s.values), *s.shape)), "entropy": jnp.zeros(s.shape)}  # type: ignore[arg-type]
        for s in sites
    }
    shares = {}
    for name, slopes in jax.grad(total)(zeros).items():
        weight = jnp.where(slopes["entropy"] > 0, slopes["entropy"], 1.0)
        found = jax.nn.softmax(slopes["indicator"] / weight, axis=0)
        shares[name] = {"indicator": found, "entropy": -jnp.sum(jax.scipy.special.xlogy(found, found), axis=0)}
    return seen(shares)


def outside_supports(trace: dict[str, Any], sites: dict[str, SiteInfo]) -> dict[str, Any]:
    """Observed site -> (number of values outside the support, flat position of the first one), of a trace."""
    names = [name for name, site in sites.items() if site.observed and site.support is not None]
    return {name: _outside(trace[name], sites[name].masked) for name in names}


def _outside(site: dict[str, Any], masked: bool) -> Any:
    """(number of values outside the support, flat position of the first one), masked entries left out."""
    outer, mask = site["fn"], jnp.asarray(True)
    for inner in wrappers(outer):
        if isinstance(inner, dist.MaskedDistribution):
            extra = outer.event_dim - inner.event_dim
            mask = mask & jnp.any(jnp.broadcast_to(inner._mask, inner.batch_shape), tuple(range(-extra, 0)))
    value = site["value"]
    safe = jnp.where(jnp.isnan(value), outer.support.feasible_like(value), value) if masked else value
    bad = jnp.logical_not(outer.support(safe)) & mask
    return jnp.sum(bad), jnp.argmax(jnp.ravel(bad))


def check_supports(
    sites: dict[str, SiteInfo], outside: dict[str, Any], place: Callable[[SiteInfo, tuple[int, ...]], str] | None = None
) -> None:
    """Raise a `DataError` for values outside their supports; `place` says where in the data a position of a site is."""
    for name, (count, first) in outside.items():
        if count:
            site = sites[name]
            shape = site.shape[: len(site.shape) - site.event_dim] or (1,)
            index = tuple(int(i) for i in np.unravel_index(int(first), shape))
            words = f"row {', '.join(map(str, index))}" if place is None else place(site, index)
            raise DataError(
                f"{int(count)} values of '{name}' lie outside {site.support}, the support of {site.distribution}.",
                f"{site.where} First at {words}.",
                "Correct or remove these rows, or choose a distribution whose support holds them.",
            )


def _mismatch(site: SiteInfo, found: float, expected: float) -> ModelError:
    if not np.isfinite(expected):
        return ModelError(
            f"The log density of '{site.name}' is {expected} at a point inside the latents' supports.",
            site.where,
            "Look for missing values (mask them), or for parameters outside their domain.",
        )
    return ModelError(
        f"The algebra derived for '{site.name}' gives {found:.10g} where NumPyro's density gives {expected:.10g}, "
        "so coordinate ascent on it would be wrong.",
        site.where,
        "This happens when a discrete latent is used outside its plate, by position (c[i]), or summed over its plate; "
        "index parameters by it (mu[c]) inside the plate instead. Otherwise use advi.",
    )
