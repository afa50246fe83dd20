"""The terms, blocks and refusals of a model, traced but not compiled: what its equations are written from."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions.distribution import validation_enabled

from jensen._base.errors import DataError, ModelError
from jensen._conjugate.algebra.arrays import is_concrete
from jensen._conjugate.algebra.blocks import Block, pointed
from jensen._conjugate.algebra.energy import Energy, SiteTerm, Skeleton, Slot, without_identities
from jensen._conjugate.algebra.factors import site_terms
from jensen._conjugate.algebra.joint import recognise_joint
from jensen._conjugate.algebra.recognise import recognise
from jensen._conjugate.algebra.terms import EXPLICIT, Atom, Factor, Gather, Known, Map, Term
from jensen._conjugate.algebra.trace import SiteInfo, find_sites
from jensen._data.data_check import check_names, convert
from jensen._math.precision import working
from jensen._program.analysis import CONCRETE_NEEDED
from jensen._program.user_code import blame


@dataclass(frozen=True, eq=False)
class Derivation:
    """What the analysis found.

    Attributes:
        sites: every sample site. terms: every term of the log joint, its traced arrays as slots.
        blocks: the recognised blocks by name; free: latents taken as known values.
        refusals: site -> why its density is no polynomial, or why the latent has no conjugate factor.
        computation: the jaxpr (with names and values of its inputs) whose outputs are the arrays of the slots.
    """

    sites: dict[str, SiteInfo]
    terms: tuple[SiteTerm, ...]
    blocks: dict[str, Block]
    refusals: dict[str, ModelError]
    computation: tuple[Any, list[str], dict[str, Any]]
    free: tuple[str, ...] = ()


def derive(
    fn: Callable[..., Any],
    data: Mapping[str, Any] | None = None,
    *,
    blocks: Sequence[tuple[str, ...]] = (),
    free: Iterable[str] = (),
) -> Derivation:
    """Trace a NumPyro program and recognise its blocks, collecting refusals instead of raising them.

    Latents in `free` are taken as known: nothing is asked of them. Nothing is compiled.
    """
    check_names(fn, data or {})
    arguments = convert(data or {}, "double")
    scalars = {k for k, v in arguments.items() if not isinstance(v, (np.ndarray, dict))}
    scalars |= {k for k, v in arguments.items() if isinstance(v, dict)}
    integers = {k for k, v in arguments.items() if isinstance(v, np.ndarray) and v.dtype.kind in "iub"}
    needed: BaseException | None = None
    with working("double"), validation_enabled(False):  # its comparisons are no algebra
        for fixed in (scalars, scalars | integers, set(arguments)):
            arrays = {k: v for k, v in arguments.items() if k not in fixed}
            try:
                return _traced(fn, arrays, {k: arguments[k] for k in fixed}, blocks, tuple(free))
            except CONCRETE_NEEDED as error:
                needed = error
            except (ModelError, DataError):
                raise
            except Exception as error:
                raise blame(error, fn, arguments) from error
    assert needed is not None
    raise blame(needed, fn, arguments) from needed


def _traced(
    fn: Callable[..., Any],
    arrays: dict[str, Any],
    fixed: dict[str, Any],
    joint: Sequence[tuple[str, ...]],
    free: tuple[str, ...],
) -> Derivation:
    sites: dict[str, SiteInfo] = {}
    jax.make_jaxpr(lambda a: sites.update(find_sites(fn, {**a, **fixed})) or ())(arrays)
    values = {name: jax.ShapeDtypeStruct(sites[name].shape, jnp.result_type(float)) for name in free}
    refusals: dict[str, ModelError] = {}
    found: dict[str, list[Term]] = {}

    def prepare(arrays: dict[str, Any], given: dict[str, Any]) -> Any:
        token = EXPLICIT.set(True)
        try:
            terms = site_terms(fn, sites, {**arrays, **fixed}, given, refusals)
        finally:
            EXPLICIT.reset(token)
        slots: dict[int, tuple[Slot, Any]] = {}
        for site, group in terms.items():
            found[site] = [_slotted(without_identities(term), slots) for term in group]
        return tuple(array for _, array in slots.values())

    closed = jax.make_jaxpr(prepare)(arrays, values)
    names = [*sorted(arrays), *sorted(values)]
    pairs = [(site, term) for site, group in found.items() for term in group]
    terms = tuple(SiteTerm(site, term, i) for i, (site, term) in enumerate(pairs))
    energy = Energy((), Skeleton(terms, Slot(0)))
    blocks = _blocks(energy, sites, joint, free, refusals)
    return Derivation(sites, terms, blocks, refusals, (closed, names, {**arrays, **values}), free)


def _slotted(term: Term, slots: dict[int, tuple[Slot, Any]]) -> Term:
    """The term with its traced arrays replaced by slots."""

    def placed(array: Any) -> Any:
        if is_concrete(array) or isinstance(array, Slot):
            return array
        return slots.setdefault(id(array), (Slot(len(slots)), array))[0]

    factors: list[Factor] = []
    for factor in term.factors:
        if isinstance(factor, Known):
            factors.append(Known(placed(factor.array), factor.maps))
        else:
            maps: list[Map] = [
                Gather(placed(m.index), m.axes, m.offset) if isinstance(m, Gather) else m for m in factor.maps
            ]
            factors.append(Atom(factor.site, factor.stat, tuple(maps)))
    return Term(term.coefficient, tuple(factors), term.out)


def _blocks(
    energy: Energy,
    sites: dict[str, SiteInfo],
    joint: Sequence[tuple[str, ...]],
    free: tuple[str, ...],
    refusals: dict[str, ModelError],
) -> dict[str, Block]:
    blocks: dict[str, Block] = {}
    for site in sites.values():
        if site.observed or site.name in free or any(site.name in b.sites for b in blocks.values()):
            continue
        names = next((names for names in joint if site.name in names), None)
        try:
            block = recognise(site, energy, sites) if names is None else recognise_joint(names, energy, sites)
        except ModelError as refusal:
            refusals.setdefault(site.name, refusal)
            continue
        blocks[block.name] = pointed(block) if site.point else block
    return blocks
