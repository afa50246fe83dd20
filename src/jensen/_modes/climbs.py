"""Where the posterior is: many L-BFGS climbs at once, the distinct modes, and the curvature at each."""

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from jensen._base.errors import ModelError
from jensen._base.typing import leaf
from jensen._core import Certificate, Progress
from jensen._families import FullRank, MeanField
from jensen._math import lbfgs, linalg
from jensen._math.quasi_newton import inverse_hessian
from jensen._model import Target
from jensen._model.by_site import by_site, joined
from jensen._model.prior_draws import prior_points
from jensen._modes.hard_edge import check_edge
from jensen._modes.improper_posterior import check_integral
from jensen._modes.relabelling import labellings_of

LONGEST = 500
"""Steps of a climb; in few dimensions fewer do."""
_PROBES = 16
"""Draws at which renumberings of states are tried."""
NEARBY = 100_000
"""Work of an evaluation from which on no climbs start from afar, a hundred steps of a batch of 64 each."""
FROM_PRIOR = 256
"""Draws of the prior among which a start is looked for where none is near 0."""
FLAT = 1e8
"""A standard deviation of an unconstrained coordinate beyond which its direction counts as flat."""


@dataclass(frozen=True)
class Mode:
    """A local maximum of the unconstrained log density with a Gaussian of its curvature.

    `factor` is lower triangular with factor·factorᵀ ≈ (-Hessian)⁻¹; `decrement` is gᵀ(-H)⁻¹g in nats, and `regular`
    says whether the Hessian is negative definite there, so that the Gaussian is the Laplace approximation.
    """

    point: np.ndarray
    value: float
    factor: np.ndarray
    decrement: float
    regular: bool

    def gaussian(self) -> FullRank:
        """N(point, factor·factorᵀ)."""
        return FullRank.from_factor(self.point, self.factor)

    def distance(self, point: np.ndarray) -> float:
        """Mahalanobis distance to another point, in units of this mode's standard deviation."""
        return float(np.linalg.norm(linalg.solve_lower(self.factor, point - self.point)))


def climb(
    target: Target, seed: int, num_starts: int, max_steps: int | None = None, first: np.ndarray | None = None
) -> Generator[Progress, None, list[lbfgs.Path]]:
    """L-BFGS from `num_starts` points, and from `first`; the paths, highest first. Raises if no start is finite.

    A path that is longer than climbs usually are is cut: on the ridge of a hierarchical scale at zero it would rise for
    ever, and Newton steps settle any other.
    """
    max_steps = max_steps or min(LONGEST, 100 + 5 * target.dim)
    starts = find_starts(target, seed, num_starts)
    starts = starts if first is None else np.concatenate([first[None], starts])
    paths: list[lbfgs.Path] = []
    # Where a gradient is dear, Newton steps take over earlier.
    tolerance = 1.0 if target.heavy else 1e-9
    for step, paths in enumerate(target.climbs(starts, max_steps, tolerance)):
        if step % 5 == 0:
            yield Progress("climbing", step, max(path.best[1] for path in paths))
    if all(path.stopped == lbfgs.RAN_AWAY for path in paths):
        raise _no_maximum(target, paths[0])
    kept = [p for p in paths if np.isfinite(p.best[1]) and p.stopped != lbfgs.RAN_AWAY]
    return sorted(kept, key=lambda p: -p.best[1])


def _no_maximum(target: Target, path: lbfgs.Path) -> ModelError:
    furthest = int(np.abs(path.points[-1]).argmax())
    name = target.structure.coordinate_names()[furthest]
    return ModelError(
        "The log density rises without bound from every start, so the posterior is improper.",
        f"Coordinate '{name}' (unconstrained) had passed {path.points[-1][furthest]:.1g}.",
        "Give that site a proper prior, or data that identify it.",
    )


def find_starts(target: Target, seed: int, count: int) -> np.ndarray:
    """Points with finite density and gradient: the model's own, then uniform on (-2, 2), then ever closer to 0.

    Where none is, the data rule out all that lies near 0, as those of a scale of one do where a threshold is far below
    zero; draws of the prior know of other scales.
    """
    rng = np.random.default_rng(seed)
    found: list[np.ndarray] = []

    def keep(candidates: np.ndarray) -> None:
        values, gradients = target.value_and_grad(candidates)
        fine = np.isfinite(values) & np.isfinite(gradients).all(axis=1)
        found.extend(candidates[fine][: count - len(found)])

    if target.initial is not None:
        candidates = np.concatenate([target.initial[None], rng.uniform(-2, 2, (max(count - 1, 1), target.dim))])
    else:
        candidates = rng.uniform(-2, 2, (count, target.dim))
    for width in (2.0, 2.0, 1.0, 0.5, 0.1, 0.01, 0.0):
        keep(candidates)
        if len(found) >= count or (found and width < 2.0):
            break
        candidates = rng.uniform(-width, width, (count, target.dim))
    if not found and len(drawn := prior_points(target, FROM_PRIOR, seed)):
        keep(drawn)
    if not found:
        raise _no_start(target, candidates[0])
    return np.stack(found)


def _no_start(target: Target, point: np.ndarray) -> ModelError:
    terms = target.terms(point)
    bad = [name for name, term in terms.items() if not np.isfinite(term).all()]
    if not bad:
        return ModelError(
            "The log density is finite, but its gradient is not, at every start.",
            f"Sites: {', '.join(terms)}.",
            "Look for sqrt or log of 0, 0/0, or jnp.where around an expression that is not finite off its branch.",
        )
    name = bad[0]
    term = np.atleast_1d(terms[name])
    row = tuple(int(i) for i in np.argwhere(~np.isfinite(term))[0])
    kind = "-inf (an observation or value outside the support)" if np.isneginf(term[row]) else "not a number or +inf"
    return ModelError(
        f"The log density is not finite at any of the starts tried: the term of site '{name}' is {kind}.",
        f"Site '{name}', first at row {row[0] if len(row) == 1 else row} of shape {np.shape(terms[name])}.",
        "Check the data against the distribution's support, and the priors' scale. Where latents must not leave a "
        "region (a numpyro.factor of -inf, a bound that they set), let their supports end at its edge.",
    )


def settle(target: Target, path: lbfgs.Path, max_steps: int = 20) -> Mode:
    """Newton steps from the end of a climb until the decrement vanishes, with the curvature at the end.

    The Hessian is a central difference of exact gradients along the columns of the current factor (steps of 10⁻³
    posterior sd, error 10⁻⁷ relative): one batch of 2D gradients that need no further compilation.
    """
    point, value, gradient = path.best
    factor = _quasi_newton_factor(path)
    decrement, regular = np.inf, False
    for _ in range(max_steps):
        curvature = target.whitened_curvature(point, factor)
        if not np.isfinite(curvature).all():
            break
        eigenvalues, vectors = np.linalg.eigh(curvature)
        regular = bool(eigenvalues.min() > 1e-10 * max(1.0, eigenvalues.max()))
        root = 1.0 / np.sqrt(np.clip(np.abs(eigenvalues), 1e-6, 1e12))
        candidate = factor @ (vectors * root)
        step = candidate @ (candidate.T @ gradient)
        decrement = float(gradient @ step)
        if np.linalg.norm(candidate, axis=1).max() > FLAT:
            regular = False
            break
        factor = linalg.lower_factor(candidate)
        accurate = np.abs(curvature - np.eye(target.dim)).max() < 0.5
        if regular and accurate and decrement < 1e-10:
            break
        trials, values, gradients, best = _try_lengths(target, point, value, step)
        rounding = 50.0 * target.eps * (1.0 + abs(value))
        if not values[best] > value - rounding:
            break
        stalled = values[best] <= value + rounding and accurate
        near = target.heavy and regular and decrement < 0.1  # the step just taken leaves its square, which is nothing
        point, value, gradient = trials[best], float(values[best]), gradients[best]
        if near or (stalled and regular):
            decrement = float(np.sum((factor.T @ gradient) ** 2))
            break
    return Mode(point, value, factor, decrement, regular)


def _try_lengths(
    target: Target, point: np.ndarray, value: float, step: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """The full Newton step, and only where it does not rise a batch of shorter ones; the index of the best."""
    for lengths in ((1.0,), (0.5, 0.25, 0.1, 0.03, 0.01, 0.001)):
        trials = point + np.array(lengths)[:, None] * step
        values, gradients = target.value_and_grad(trials)
        values = np.where(np.isfinite(values) & np.isfinite(gradients).all(axis=1), values, -np.inf)
        best = int(np.argmax(values))
        if values[best] >= value:
            break
    return trials, values, gradients, best


def _quasi_newton_factor(path: lbfgs.Path) -> np.ndarray:
    matrix = inverse_hessian(path, len(path.points) - 1)
    if linalg.is_positive_definite(matrix):
        return linalg.cholesky(matrix)
    return np.diag(np.sqrt(np.maximum(np.abs(np.diag(matrix)), 1e-12)))


@dataclass(frozen=True)
class Survey:
    """The modes that a set of climbs found, the one with most evidence first, and what the others amount to.

    Evidence is that of Laplace, p(û) |2πΣ|^½: a rough but telling weight for modes far apart. `share_elsewhere` is the
    share of the other modes, `variance_elsewhere` what they add to the variance of a coordinate, in units of the first
    mode's variance: Σ share · distance². Of modes that differ by a renumbering of interchangeable states only the first
    is kept.
    """

    modes: tuple[Mode, ...]
    share_elsewhere: float
    variance_elsewhere: float

    @property
    def mode(self) -> Mode:
        """The one with most evidence."""
        return self.modes[0]

    def certificate(self) -> Certificate:
        """What the verdict wants to know."""
        return Certificate(
            mode_decrement=self.mode.decrement,
            modes=float(len(self.modes)),
            share_elsewhere=self.share_elsewhere,
            variance_elsewhere=self.variance_elsewhere,
        )


def survey(target: Target, paths: list[lbfgs.Path], most: int = 4) -> Survey:
    """Settle the highest climb, and up to `most` - 1 others that ended more than 5 sd from it.

    The starts of the climbs know nothing of the posterior's scale, so where a climb costs little others start from far
    around the mode found; they come back to it when it is the only one.
    """
    mode = settle(target, paths[0])
    check_integral(target, mode.point, mode.factor)
    if not target.heavy:
        check_edge(target, mode.point, mode.factor, mode.regular and mode.decrement < 1e-4)
    near = target.work > NEARBY or not mode.regular or np.isfinite(target.reach)
    further = [] if near else _climb_from_afar(target, mode)
    ends: list[lbfgs.Path] = []
    for path in sorted([*paths[1:], *further], key=lambda p: -p.best[1]):
        point = path.best[0]
        apart = all(np.linalg.norm(point - other.best[0]) > 1e-3 * (1 + np.linalg.norm(point)) for other in ends)
        if mode.distance(point) > 5.0 and apart:
            ends.append(path)
    ends = _relabelled(target, mode, ends)
    modes = distinct([mode, *(settle(target, path) for path in ends[: most - 1])])
    proper = [m for m in modes if m.regular]
    if not proper or not mode.regular:
        return Survey(tuple(modes), 0.0, 0.0)
    logs = np.array([m.value + linalg.log_det_factor(m.factor) for m in proper])
    order = np.argsort(-logs)
    shares = np.exp(logs[order] - np.logaddexp.reduce(logs))
    ranked = [proper[i] for i in order]
    distances = np.array([ranked[0].distance(m.point) for m in ranked])
    return Survey(tuple(ranked), float(shares[1:].sum()), float((shares * distances**2)[1:].sum()))


def _relabelled(target: Target, mode: Mode, ends: list[lbfgs.Path]) -> list[lbfgs.Path]:
    """The climbs that ended neither at the mode nor at each other's end in another labelling."""
    if not ends or not mode.regular:
        return ends
    draws = mode.point + np.random.default_rng(0).normal(size=(_PROBES, target.dim)) @ mode.factor.T
    labellings = labellings_of(target, draws)
    if not labellings:
        return ends
    here, kept, seen = by_site(target, mode.point[None]), [], [mode.point]
    for path in ends:
        latents = by_site(target, path.best[0][None])
        for labelling in labellings:
            latents = labelling.aligned(latents, here)
        point = joined(target, latents)[0][0]
        if all(mode.distance(mode.point + point - other) > 5.0 for other in seen):
            kept.append(path)
            seen.append(point)
    return kept


def _climb_from_afar(target: Target, mode: Mode, pairs: int = 8) -> list[lbfgs.Path]:
    """Climbs from mirrored pairs of points 4 to 30 sd beyond the mode's bulk, in random directions."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(pairs, target.dim))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = np.sqrt(target.dim) + np.geomspace(4.0, 30.0, pairs)
    moves = (lengths[:, None] * directions) @ mode.factor.T
    starts = np.concatenate([mode.point + moves, mode.point - moves])
    *_, paths = target.climbs(starts, max_steps=100, tolerance=1e-6)
    return [p for p in paths if np.isfinite(p.best[1]) and np.isfinite(p.best[0]).all() and p.stopped != lbfgs.RAN_AWAY]


def distinct(modes: list[Mode], tolerance: float = 1.0) -> list[Mode]:
    """Modes, highest first, without those within `tolerance` standard deviations of a higher one."""
    kept: list[Mode] = []
    for mode in sorted(modes, key=lambda m: -m.value):
        if all(min(other.distance(mode.point), mode.distance(other.point)) > tolerance for other in kept):
            kept.append(mode)
    return kept


def diagonal_gaussian(target: Target, point: np.ndarray) -> MeanField:
    """N(point, diag) from the diagonal of the curvature, by random sign probes (Bekas, Kokiopoulou and Saad 2007).

    16 pairs of gradients whatever the dimension: for models too large for a matrix.
    """
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], size=(16, target.dim))
    step = 1e-4 * (1.0 + np.abs(point))
    _, plus = target.value_and_grad(point + step * signs)
    _, minus = target.value_and_grad(point - step * signs)
    diagonal = -((plus - minus) * signs).mean(axis=0) / (2.0 * step)
    floor = 1e-4 * max(float(np.median(np.abs(diagonal))), 1e-12)
    return MeanField(leaf(point), leaf(-0.5 * np.log(np.maximum(diagonal, floor))))
