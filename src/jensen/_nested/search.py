"""Latents that fall into small groups, independent of each other given the rest: found by following derivatives.

With directions that are constant within a group, the derivative of a row along (label × direction) over that along
(direction) is the label of the one group that the row sees; a third direction, random in every group, tells rows that
see several. Nothing is assumed of the program but how the entries of its sites are numbered.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jensen._math.precision import float_type, working
from jensen._model import Target
from jensen._model.numpyro import NumPyroModel
from jensen._nested.layout import Layout, Owners
from jensen._nested.probing import affine
from jensen._nested.rows import log_rows, on_support
from jensen._program.bijection import SiteBijection
from jensen._program.on_host import HostProgram
from jensen._program.structure import Structure

FEWEST, LARGEST, GAUSSIAN = 8, 2, 8
"""Groups that are worth it, latents in one group, and in one that is Gaussian given the rest."""
POINTS, EXACT = 3, 1e-7
"""Points at which derivatives are followed, and the relative error up to which two of them are the same."""
NONE, FAINT = 1e-12, 1e-7
"""Derivatives that are none, and those that are only looked at elsewhere, relative to the rows."""
JACOBIAN = "|"
"""What follows a site's name where the rows are those of its Jacobian."""


@dataclass(frozen=True)
class _Numbering:
    """Sites whose entries are numbered by group: site -> label of every unconstrained coordinate."""

    labels: dict[str, np.ndarray]

    @property
    def groups(self) -> int:
        return int(max(own.max() for own in self.labels.values())) + 1

    @property
    def latents(self) -> int:
        return sum(own.size for own in self.labels.values())


def find_groups(target: Target) -> Layout | None:
    """The largest part of the latents that falls into small groups; `None` where there is none.

    Of at most `LARGEST` latents, or `GAUSSIAN` where the log density is quadratic in them.
    """
    model = target.model
    if model.handled is None or not isinstance(model.bijection, SiteBijection):
        return None
    if model.handled.discrete is not None or target.subsample is not None:
        return None
    candidates = list(_numberings(target.structure))
    if not candidates:
        return None
    with working(target.precision):
        probe = _Probe(target)
        for numbering in sorted(candidates, key=lambda one: -one.latents):
            layout = probe.layout(numbering)
            if layout is not None:
                return layout
    return None


def _numberings(structure: Structure) -> Iterator[_Numbering]:
    """Sites with an axis of one length, all of them together and each by itself."""
    by_length: dict[int, dict[str, np.ndarray]] = {}
    for site in structure.latents:
        shape = site.unconstrained_shape
        for axis, length in enumerate(shape):
            along = np.broadcast_to(np.arange(length).reshape([-1] + [1] * (len(shape) - axis - 1)), shape)
            by_length.setdefault(length, {}).setdefault(site.name, along.reshape(-1))
        if len(shape) > 1:
            by_length.setdefault(site.size, {}).setdefault(site.name, np.arange(site.size))
    for length, labels in by_length.items():
        if length < FEWEST:
            continue
        yield from (_Numbering({name: own}) for name, own in labels.items() if len(labels) > 1)
        yield _Numbering(labels)


def _followed(model: NumPyroModel, point: jax.Array, directions: jax.Array) -> tuple[dict, dict]:
    """Rows at u and their derivatives along each direction."""

    def rows(u: jax.Array) -> dict[str, jax.Array]:
        latent, extra = on_support(model.bijection, u)  # type: ignore[arg-type]
        own = {name + JACOBIAN: value for name, value in extra.items()}
        return {name: jnp.ravel(value) for name, value in {**log_rows(model, latent), **own}.items()}

    return rows(point), jax.vmap(lambda v: jax.jvp(rows, (point,), (v,))[1])(directions)


class _Probe:
    """Derivatives of all rows at a few generic points."""

    def __init__(self, target: Target):
        self.target, self.structure = target, target.structure
        self.rng = np.random.default_rng(0)
        self.program, self.weighed = HostProgram(_followed), HostProgram(_weighed)
        self.dtype = float_type(target.precision)
        self.points = self.rng.normal(0.0, 0.7, (POINTS, target.dim)).astype(self.dtype)

    def layout(self, numbering: _Numbering) -> Layout | None:
        """The layout of these groups if they are independent, complete and small enough."""
        counts = np.bincount(np.concatenate(list(numbering.labels.values())), minlength=numbering.groups)
        if counts.max() > GAUSSIAN or counts.min() != counts.max():
            return None
        labels = np.full(self.target.dim, -1)
        for name, own in numbering.labels.items():
            start = self.structure.offsets[name]
            labels[start : start + len(own)] = own
        owners = self._owners(labels, numbering.groups)
        if owners is None or not self._separate(labels, owners, numbering.groups):
            return None
        quadratic = self._quadratic(labels >= 0, owners)
        if counts.max() > LARGEST and not quadratic:
            return None
        sites = tuple(site.name for site in self.structure.latents if site.name in numbering.labels)
        flat = np.concatenate([numbering.labels[name] for name in sites])
        members = np.argsort(flat, kind="stable").reshape(numbering.groups, -1)
        kept = {n: o for n, o in owners.items() if not n.endswith(JACOBIAN) or n[:-1] in sites}
        found = {name: Owners.of(own, numbering.groups) for name, own in kept.items()}
        return Layout(sites, members, found, quadratic)

    def _owners(self, labels: np.ndarray, groups: int) -> dict[str, np.ndarray] | None:
        """Site -> the group that each row sees, `groups` for none; `None` where a row sees several."""
        field, own = labels >= 0, np.maximum(labels, 0)
        out: dict[str, np.ndarray] = {}
        faint: dict[str, np.ndarray] = {}
        for point in self.points:
            base = np.where(field, self.rng.uniform(0.5, 1.5, len(labels)), 0.0)
            random = self.rng.uniform(0.5, 1.5, groups)
            directions = np.stack([base, base * (own + 1), base * random[own]]).astype(self.dtype)
            rows, slopes = self.program.on_host(self.target.model, point, directions)
            for name, (plain, labelled, mixed) in ((n, np.asarray(s, float)) for n, s in slopes.items()):
                known = out.setdefault(name, np.full(len(plain), groups))
                size = np.abs(np.stack([plain, labelled / groups, mixed])).max(axis=0)
                size = size / (1.0 + np.abs(np.asarray(rows[name], float)))
                seen = size > FAINT  # what is smaller is told by too few digits
                faint[name] = faint.get(name, False) | ((size > NONE) & ~seen)
                with np.errstate(all="ignore"):
                    group = np.where(seen, np.rint(labelled / plain) - 1, groups)
                if not (np.isfinite(group).all() and (group >= 0).all() and (group <= groups).all()):
                    return None
                group = group.astype(int)
                which = random[np.minimum(group, groups - 1)]
                exact = np.abs(labelled - (group + 1) * plain) <= EXACT * groups * np.abs(plain)
                exact &= np.abs(mixed - which * plain) <= EXACT * np.abs(plain)
                clash = seen & (known < groups) & (known != group)
                if not exact[seen].all() or clash.any():
                    return None
                known[seen] = group[seen]
        return None if any((faint[name] & (own == groups)).any() for name, own in out.items()) else out

    def _separate(self, labels: np.ndarray, owners: dict[str, np.ndarray], groups: int) -> bool:
        """Whether weighing every row by its group's number weighs each latent's derivative by its own group's."""
        weights = self.rng.uniform(0.5, 1.5, groups + 1)
        shares = {name: weights[own].astype(self.dtype) for name, own in owners.items()}
        field = labels >= 0
        for point in 0.5 * self.points + 0.1:
            both, rows, whole = self.weighed.on_host(self.target.model, point, shares)
            if not np.isfinite(both).all() or not np.isfinite(whole):
                continue
            if abs(rows - whole) > 1e-6 * (1.0 + abs(whole)):
                return False  # some term of the log density is no row
            expected = both[0] * weights[np.maximum(labels, 0)]
            scale = np.abs(both[0][field]).max(initial=1e-300)
            return bool((np.abs(both[1] - expected)[field] <= 1e-6 * (np.abs(expected[field]) + 1e-3 * scale)).all())
        return False

    def _quadratic(self, field: np.ndarray, owners: dict[str, np.ndarray]) -> bool:
        """Whether the gradient with regard to the groups' latents is affine along generic lines of them."""
        shares = {name: np.ones(len(own), self.dtype) for name, own in owners.items()}
        slope = lambda point: self.weighed.on_host(self.target.model, point, shares)[0][0]  # noqa: E731
        return affine(slope, 0.5 * self.points[:2] + 0.1, np.flatnonzero(field), self.target.eps)


def _weighed(model: NumPyroModel, point: jax.Array, shares: dict[str, jax.Array]) -> tuple[jax.Array, ...]:
    """Gradients of all rows together and of the rows weighed by `shares`, (2, D); the rows' sum; the log density."""

    def rows(u: jax.Array) -> dict[str, jax.Array]:
        latent, extra = on_support(model.bijection, u)  # type: ignore[arg-type]
        return {**log_rows(model, latent), **{name + JACOBIAN: value for name, value in extra.items()}}

    found, back = jax.vjp(rows, point)
    alike = {name: jnp.ones_like(value) for name, value in found.items()}
    weighed = {name: shares[name].astype(value.dtype).reshape(value.shape) for name, value in found.items()}
    slopes = [back(one)[0] for one in (alike, weighed)]
    return jnp.stack(slopes), sum((jnp.sum(value) for value in found.values()), jnp.zeros(())), model.log_density(point)
