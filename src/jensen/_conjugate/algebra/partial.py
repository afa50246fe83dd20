"""Models that are conjugate except for some latents: those are taken as known values, draw by draw."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun
from numpyro.distributions import biject_to
from numpyro.distributions.distribution import validation_enabled

from jensen._base.errors import ModelError
from jensen._base.typing import Array, Scalar
from jensen._conjugate.algebra.derived import Derivation, derive
from jensen._conjugate.algebra.energy import Energy, Lookup, SiteTerm, Skeleton, reduced
from jensen._conjugate.algebra.factors import site_terms
from jensen._conjugate.algebra.model import ConjugateModel, arranged
from jensen._conjugate.algebra.selfcheck import SupportCheck, self_check
from jensen._conjugate.algebra.target import HybridTarget, in_blocks
from jensen._conjugate.algebra.trace import SiteInfo, find_sites
from jensen._data.data_check import as_mapping, check_missing, check_names, convert
from jensen._math.precision import Precision, working
from jensen._model.program import BoundProgram
from jensen._program.analysis import CONCRETE_NEEDED, is_fixed
from jensen._program.folding import sources_of
from jensen._program.structures import structure_of

MAX_TRIED = 40
"""Latents that are tried, one by one, as the obstacle."""


class AveragedEnergy(eqx.Module):
    """The expected log joint averaged over draws of the latents that are taken as known, in nats.

    It stands where an `Energy` does: linear in the moments of each block for every draw, hence on average.

    Attributes:
        arrays: the known arrays; those that depend on the draws carry them on a first axis.
        batched: which do. skeleton: the terms.
    """

    arrays: tuple[Array, ...]
    batched: tuple[bool, ...] = eqx.field(static=True)
    skeleton: Skeleton = eqx.field(static=True)

    @property
    def terms(self) -> tuple[SiteTerm, ...]:
        """The terms with the sites they come from."""
        return self.skeleton.terms

    def with_arrays(self, arrays: Iterable[Array]) -> "AveragedEnergy":
        """The same terms on other arrays."""
        return AveragedEnergy(tuple(arrays), self.batched, self.skeleton)

    def __call__(self, lookup: Lookup, terms: Any = None) -> Scalar:
        """The value at the moments that `lookup` finds, in nats."""
        return sum(self.parts(lookup, terms), start=jnp.zeros(()))

    def parts(self, lookup: Lookup, terms: Any = None) -> list[Scalar]:
        """The value of each term."""
        if not any(self.batched):
            return Energy(self.arrays, self.skeleton).parts(lookup, terms)
        axes = tuple(0 if b else None for b in self.batched)
        values = jax.vmap(lambda *a: Energy(a, self.skeleton).parts(lookup, terms), axes)(*self.arrays)
        return [jnp.mean(value) for value in values]


@dataclass(frozen=True, eq=False)
class PartialModel:
    """A model whose latents in `free` have no conjugate factor.

    Attributes:
        free: the latents taken as known, in the order of the program. derivation: the analysis with these as known.
        sites: every sample site. prepare: (data arrays, values of the free latents) -> the known arrays.
        skeleton, batched: the terms, and which of the arrays depend on the free latents.
        arrays: the data. conjugate: the other latents' blocks, its energy at one point of the free latents.
        refusal: why the model as a whole is not conjugate.
    """

    free: tuple[str, ...]
    derivation: Derivation
    sites: dict[str, SiteInfo]
    prepare: Callable[[dict[str, Any], dict[str, Any]], Any]
    skeleton: Skeleton
    batched: tuple[bool, ...]
    arrays: dict[str, Any]
    conjugate: ConjugateModel
    refusal: ModelError
    shapes: dict[str, tuple[int, ...]]
    precision: Precision

    @property
    def model(self) -> ConjugateModel:
        """The conjugate part."""
        return self.conjugate

    @property
    def dim(self) -> int:
        """Unconstrained coordinates of the free latents."""
        return sum(int(np.prod(s, dtype=int)) for s in self.shapes.values())

    def constrain(self, flat: Array) -> tuple[dict[str, Array], Scalar]:
        """(values of the free latents, log |det| of the map from the flat unconstrained point)."""
        values, log_det, start = {}, jnp.zeros(()), 0
        for name, shape in self.shapes.items():
            size = int(np.prod(shape, dtype=int))
            u = flat[start : start + size].reshape(shape)
            transform = biject_to(self.sites[name].support)
            values[name] = transform(u)
            log_det = log_det + jnp.sum(transform.log_abs_det_jacobian(u, values[name]))
            start += size
        return values, log_det

    def energy(self, arrays: dict[str, Any], flat: Array, lookup: Lookup) -> Scalar:
        """E over the conjugate blocks of the log joint at one unconstrained point of the free latents, in nats."""
        values, log_det = self.constrain(flat)
        return Energy(tuple(self.prepare(arrays, values)), self.skeleton)(lookup) + log_det

    def averaged(self, arrays: dict[str, Any], draws: Array) -> AveragedEnergy:
        """The energy of the conjugate blocks over these unconstrained draws (count, dim)."""

        def at(flat: Array) -> tuple[Array, ...]:
            return tuple(self.prepare(arrays, self.constrain(flat)[0]))

        outs = tuple(0 if b else None for b in self.batched)
        return AveragedEnergy(jax.vmap(at, out_axes=outs)(draws), self.batched, self.skeleton)


def build_partial(
    fn: Callable[..., Any],
    data: Mapping[str, Any] | None,
    refusal: ModelError,
    *,
    blocks: Sequence[tuple[str, ...]] = (),
    precision: Precision = "double",
) -> PartialModel:
    """Free the fewest latents that leave a conjugate model; raise `refusal` where none is left, or no choice does."""
    derivation = free_fewest(fn, data, blocks=blocks)
    if derivation is None or not derivation.blocks:
        raise refusal
    free = tuple(name for name in derivation.sites if name in derivation.free)
    if not all(is_fixed(derivation.sites[name].support) for name in free):
        raise refusal
    check_names(fn, data or {})
    arguments = convert(data or {}, precision)
    with working(precision), validation_enabled(False):  # its comparisons are no algebra
        model = _prepared(fn, arguments, free, derivation, refusal, blocks, precision)
        check_missing(arguments, {s.data_key for s in model.sites.values() if s.masked and s.data_key})
        fixed = {k: v for k, v in arguments.items() if k not in model.arrays}
        SupportCheck(fn, model.sites, fixed).run(model.arrays)

        def at(arrays: dict[str, Any], values: dict[str, Any]) -> Energy:
            return Energy(tuple(model.prepare(arrays, {n: values[n] for n in free})), model.skeleton)

        self_check(fn, at, model.sites, model.arrays, fixed)
    return model


def hybrid_target(
    fn: Callable[..., Any],
    data: Mapping[str, Any] | None,
    refusal: ModelError,
    *,
    blocks: Sequence[tuple[str, ...]] = (),
    precision: Precision = "double",
) -> HybridTarget:
    """`build_partial` together with its program, sites and plates."""
    data = as_mapping(data)
    with working(precision):
        model = build_partial(fn, data, refusal, blocks=blocks, precision=precision)
        arguments = convert(data, precision)
        fixed = {k: v for k, v in arguments.items() if k not in model.arrays}
        structure = in_blocks(structure_of(fn, arguments)[0], model.sites)
    return HybridTarget(model, structure, BoundProgram(fn, model.arrays, fixed, precision))


def free_fewest(
    fn: Callable[..., Any],
    data: Mapping[str, Any] | None,
    *,
    blocks: Sequence[tuple[str, ...]] = (),
    first: Derivation | None = None,
) -> Derivation | None:
    """The analysis with the fewest latents taken as known that leaves no refusal; `None` where there is none.

    Greedy: each time the latent that leaves the fewest refusals, among those the smallest. Where several have to be
    free before a refusal goes, some may have been freed for nothing: those are taken back. `first` is the analysis with
    none freed, if there is one already.
    """
    current = derive(fn, data, blocks=blocks) if first is None else first
    joint = {name for names in blocks for name in names}
    while current.refusals:
        candidates = [
            s.name
            for s in current.sites.values()
            if not s.observed and s.values is None and s.name not in current.free and s.name not in joint
        ]
        tried = []
        for name in sorted(candidates, key=lambda n: n not in current.refusals)[:MAX_TRIED]:
            found = derive(fn, data, blocks=blocks, free=(*current.free, name))
            size = int(np.prod(current.sites[name].shape, dtype=int))
            tried.append((len(found.refusals), size, len(tried), found))
        if not tried:
            return None
        best = min(tried, key=lambda item: item[:3])
        if best[0] >= len(current.refusals) and len(current.free) >= 3:
            return None
        current = best[3]
    for name in tuple(current.free)[:-1]:
        fewer = derive(fn, data, blocks=blocks, free=tuple(n for n in current.free if n != name))
        current = current if fewer.refusals else fewer
    return current


def _prepared(
    fn: Callable[..., Any],
    arguments: dict[str, Any],
    free: tuple[str, ...],
    derivation: Derivation,
    refusal: ModelError,
    blocks: Sequence[tuple[str, ...]],
    precision: Precision,
) -> PartialModel:
    scalars = {k for k, v in arguments.items() if not isinstance(v, (np.ndarray, dict))}
    integers = {k for k, v in arguments.items() if isinstance(v, np.ndarray) and v.dtype.kind in "iub"}
    for fixed_names in (scalars, scalars | integers, set(arguments)):
        arrays = {k: v for k, v in arguments.items() if k not in fixed_names}
        fixed = {k: v for k, v in arguments.items() if k in fixed_names}
        found: dict[str, Any] = {}

        def trace(
            arrays: dict[str, Any], values: dict[str, Any], fixed: dict[str, Any] = fixed, found: Any = found
        ) -> Any:
            found["skeleton"], known = reduced(site_terms(fn, found["sites"], {**arrays, **fixed}, values))
            return tuple(known)

        def look(arrays: dict[str, Any], fixed: dict[str, Any] = fixed, found: Any = found) -> Any:
            found["sites"] = find_sites(fn, {**arrays, **fixed})
            return ()

        try:
            jax.make_jaxpr(look)(arrays)
            sites: dict[str, SiteInfo] = found["sites"]
            values = {n: jax.ShapeDtypeStruct(sites[n].shape, jnp.result_type(float)) for n in free}
            closed = jax.make_jaxpr(trace)(arrays, values)
        except CONCRETE_NEEDED:
            continue
        energy = Energy((), found["skeleton"])
        others = {name: site for name, site in sites.items() if name not in free}
        conjugate = ConjugateModel(energy, arranged(energy, others, blocks))
        count = len(jax.tree.leaves(arrays))
        shapes = {n: tuple(biject_to(sites[n].support).inverse_shape(sites[n].shape)) for n in free}
        run = jaxpr_as_fun(closed)

        def prepare(arrays: dict[str, Any], values: dict[str, Any], run: Any = run) -> Any:
            return run(*jax.tree.leaves((arrays, {n: values[n] for n in free})))

        batched = tuple(max(found, default=-1) >= count for found in sources_of(closed.jaxpr))
        return PartialModel(
            free,
            derivation,
            sites,
            prepare,
            found["skeleton"],
            batched,
            arrays,
            conjugate,
            refusal,
            shapes,
            precision,
        )
    raise refusal
