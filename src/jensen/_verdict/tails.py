"""Tails of single scalars, measured where no draw of q need reach."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import ndtri

from jensen._program.structure import Structure
from jensen._verdict.directed import Directed, Mixed
from jensen._verdict.profile import DRAWS, STEPS, Frame, Slices, climbed, log_marginals, widened

ANCHOR = 0.9
"""Quantile beyond which the tail begins."""
SD = float(ndtri(ANCHOR))
REACH = 6.0
"""Where the profile of every coordinate is looked at first, in sd."""
ENOUGH = 0.5 * SD**2 + 2.2 * (REACH - SD)
"""Nats that it must have fallen there: 2.2 a sd beyond the anchor put the 99 % point where a Gaussian has it."""
MOVED = 4.0
"""Standard deviations that the scalar must have moved there: a tail towards a bound moves nothing."""
HEIGHTS = np.array([0.0, 0.8, 1.5, 2.4, 3.5, 5.0, 7.5, 11.0])
"""Where a tail is measured, in sd beyond the anchor; it is known if it is at `LEAST` of these."""
LEAST = 5
RAYS, FEWEST, ROWS, SIDES = 16, 8, 128, 12
"""Sides of coordinates that a ray is followed to for each that is looked at, if there are more; sides that are looked
at, none where these would be fewer than the least; and those that are measured: the flattest."""
SECONDS = 1.0
"""Seconds, as reckoned from the program, of all that is done here: half for looking, half for measuring; as many as the
fit's own evaluations took where these are more. Fewer sides are looked at, and measured, where each is dear."""
USUAL = STEPS // 3
"""Steps that a climb on a slice takes."""
SHORT = 1.1
"""A tail that is longer than that of the draws by this factor, or adds as much to a variance, gets draws of its own."""
SMALL = 4
"""Scalars of sites that are always looked at."""


@dataclass(frozen=True)
class Tail:
    """The tail of a scalar on one side, beyond its corrected 90 % point, by its marginal density.

    Attributes:
        scalar, level: its name, and the point of this tail, "99 %" or "1 %".
        index: P(|x| > s) falls like s^-index far out; the mean is finite above 1, the variance above 2. slope: the same
            between the 90 % and the 99 % point.
        quantile, of_q, corrected: the distance of the 99 % point from the median by the tail, by q's draws, and by the
            corrected draws.
        shift, spread: what the tail adds to the mean (in sd) and to the variance (in variances) of the corrected draws;
            infinite where they are.
    """

    scalar: str
    level: str
    index: float
    slope: float
    quantile: float
    of_q: float
    corrected: float
    shift: float
    spread: float


@dataclass(frozen=True)
class _Draws:
    """Points u (n, D) with weights that sum to one, the first half from q, and the scalars (n, K) of the latents."""

    points: np.ndarray
    weights: np.ndarray
    table: np.ndarray
    names: list[str]
    median: np.ndarray
    sd: np.ndarray


@dataclass(frozen=True)
class Looked:
    """Tails that fall too slowly to be known from the draws, and what was left out since it would take too long.

    Attributes:
        tails: those that were measured. proposals: that follow them.
        slow: the scalars of others that were not. seen, unseen: sides of coordinates that were looked at, and were not.
    """

    tails: list[Tail] = field(default_factory=list)
    proposals: list[Directed] = field(default_factory=list)
    slow: tuple[str, ...] = ()
    seen: int = 0
    unseen: int = 0

    def reaching(self) -> Mixed | None:
        """Proposals for all tails where the draws fall short of some; `None` where they do not."""
        short = any(tail.quantile > SHORT * tail.corrected or tail.spread > SHORT - 1.0 for tail in self.tails)
        return Mixed(tuple(self.proposals)) if short else None


def measured(target: Any, points: np.ndarray, weights: np.ndarray, seed: int) -> Looked:
    """Tails that fall slowly, with proposals that follow them. The draws are half from q; `weights` sum to one.

    For every coordinate u_i of the unconstrained space the rest is maximised where u_i is `REACH` sd out. Where the log
    density has fallen too little there and the scalar that it stands for has moved far, the integral of p over slices
    of constant u_i, further and further out, gives the marginal density beyond the 90 % point. Nothing is looked at
    where the effective draws are too few to tell the scale of the coordinates.
    """
    effective = 1.0 / max(float((weights**2).sum()), 1e-300)
    frame = Frame.of(points, weights) if effective > 2 * target.dim else None
    if frame is None:
        return Looked()
    seconds = 0.5 * max(SECONDS, target.price.seconds(target.gradients + target.values, 0))
    draws = _drawn(target, points, weights)
    most = min(int(seconds / target.price.seconds(USUAL + RAYS, 0)), ROWS)
    if most < min(FEWEST, 2 * target.dim):
        return Looked(unseen=2 * target.dim)
    coordinates, signs = _looked_at(target, frame, draws, most)
    normals = np.stack([frame.normal(i)[0] for i in coordinates])
    first = climbed(target, frame, coordinates, REACH * signs, REACH * signs[:, None] * normals)
    columns, moved = _moved(target, frame, first, draws)
    fallen = float(target.value(frame.mean[None])[0]) - first.values - widened(target, frame, first, seed)
    flat = [i for i in np.argsort(fallen) if np.isfinite(fallen[i]) and fallen[i] < ENOUGH and moved[i] > MOVED]
    each = USUAL + 2 * target.dim + DRAWS  # the climb, the curvature of the slice, and draws of it
    sides = min(int(seconds / target.price.seconds(each * len(HEIGHTS), 0)), SIDES)
    found = _measured(target, frame, first, flat[:sides], columns, draws, seed) if flat[:sides] else []
    left = [draws.names[columns[i]] for i in flat[sides:]]
    slow = tuple(name for name in dict.fromkeys(left) if all(name != tail.scalar for tail, _ in found))
    return Looked(
        [t for t, _ in found], [p for _, p in found], slow, len(coordinates), 2 * target.dim - len(coordinates)
    )


def _drawn(target: Any, points: np.ndarray, weights: np.ndarray) -> _Draws:
    table, names = _scalars(target, points)
    median = quantiles(table, weights, 0.5)
    spread = np.maximum(quantiles(table, weights, 0.841) - quantiles(table, weights, 0.159), 1e-300)
    return _Draws(points, weights, table, names, median, 0.5 * spread)


def _scalars(target: Any, points: np.ndarray) -> tuple[np.ndarray, list[str]]:
    values = target.constrain(points)
    parts, names = [], []
    for site in target.structure.latents:
        parts.append(np.asarray(values[site.name], float).reshape(len(points), -1))
        names += [f"{site.name}[{','.join(map(str, i))}]" if i else site.name for i in np.ndindex(site.shape)]
    return np.concatenate(parts, axis=1), names


def quantiles(table: np.ndarray, weights: np.ndarray, level: float) -> np.ndarray:
    """The weighted quantile of each column."""
    order = np.argsort(table, axis=0)
    below = np.cumsum(weights[order], axis=0)
    at = np.minimum((below < level * below[-1]).sum(0), len(table) - 1)
    return np.take_along_axis(np.take_along_axis(table, order, 0), at[None], 0)[0]


def _columns(structure: Structure) -> list[np.ndarray]:
    """For each coordinate the scalars that it may stand for: its own, or all of the site where there is no such one."""
    found, start = [], 0
    for site in structure.latents:
        count = int(np.prod(site.shape, dtype=int))
        own = np.arange(start, start + count)
        found += [own[i : i + 1] if site.size == count else own for i in range(site.size)]
        start += count
    return found


def _looked_at(target: Any, frame: Frame, draws: _Draws, most: int) -> tuple[np.ndarray, np.ndarray]:
    """(coordinates, signs) of sides; of many those of small sites, and where the density falls least on a ray."""
    coordinates, signs = np.repeat(np.arange(target.dim), 2), np.tile([1.0, -1.0], target.dim)
    if len(coordinates) <= most:
        return coordinates, signs
    small = np.concatenate([np.full(site.size, site.size <= SMALL) for site in target.structure.latents])[coordinates]
    order = np.flatnonzero(small)[:most]
    rest = np.flatnonzero(~small)[: RAYS * most]
    rays = REACH * signs[rest, None] * np.stack([frame.normal(i)[0] for i in coordinates[rest]])
    slices = Slices(coordinates[rest], REACH * signs[rest], rays, target.value(frame.points(rays)))
    far = _moved(target, frame, slices, draws)[1] > MOVED
    flattest = np.argsort(np.where(far & np.isfinite(slices.values), -slices.values, np.inf))
    chosen = np.concatenate([order, rest[flattest]])[:most]
    return coordinates[chosen], signs[chosen]


def _moved(target: Any, frame: Frame, slices: Slices, draws: _Draws) -> tuple[np.ndarray, np.ndarray]:
    """(the scalar that a coordinate moves most, by how many sd it has)."""
    table, _ = _scalars(target, frame.points(slices.white))
    far = np.nan_to_num(np.abs(table - draws.median) / draws.sd, nan=0.0, posinf=1e300)
    own = _columns(target.structure)
    columns = np.array([own[i][int(far[row, own[i]].argmax())] for row, i in enumerate(slices.coordinates)])
    return columns, far[np.arange(len(columns)), columns]


def _measured(
    target: Any, frame: Frame, first: Slices, flat: list[int], columns: np.ndarray, draws: _Draws, seed: int
) -> list[tuple[Tail, Directed]]:
    coordinates, signs = first.coordinates[flat], np.sign(first.heights[flat])
    outward = draws.points[:, coordinates] * signs
    middle, anchor = (quantiles(outward, draws.weights, level) for level in (0.5, ANCHOR))
    at = anchor[:, None] + HEIGHTS * ((anchor - middle) / SD)[:, None]
    scales = np.array([frame.normal(i)[1] for i in coordinates])
    heights = (at * signs[:, None] - frame.mean[coordinates][:, None]) / scales[:, None]
    starts = (heights / first.heights[flat][:, None])[..., None] * first.white[flat][:, None]
    repeated = np.repeat(coordinates, len(HEIGHTS))
    slices = climbed(target, frame, repeated, heights.ravel(), starts.reshape(-1, target.dim))
    logs, roots = log_marginals(target, frame, slices, seed)
    logs, roots = logs.reshape(at.shape), roots.reshape(*at.shape, *roots.shape[1:])
    white = slices.white.reshape(*at.shape, -1)
    table = _scalars(target, frame.points(slices.white))[0].reshape(*at.shape, -1)
    found = []
    for side, row in enumerate(flat):
        column = columns[row]
        moves = table[side, :, column] - draws.median[column]
        way = float(np.sign(moves[0]))
        shape = _shape(at[side], logs[side], way * moves)
        if shape is None:
            continue
        tail = _against(draws, column, way, outward[:, side] > anchor[side], shape)
        known = slice(0, shape.known)
        logs_known = logs[side, known] - logs[side, 0]
        parts = (at[side, known], logs_known, white[side, known], roots[side, known])
        found.append((tail, Directed(frame, int(coordinates[side]), float(signs[side]), *parts)))
    return found


@dataclass(frozen=True)
class _Shape:
    """Of a scalar's distance from its median beyond the anchor: tail index, slope, 99 % point, mean and mean square.

    `known` is how many heights this rests on.
    """

    index: float
    slope: float
    quantile: float
    mean: float
    square: float
    known: int


def _shape(at: np.ndarray, logs: np.ndarray, distances: np.ndarray) -> _Shape | None:
    """From log marginals at heights `at`, and the distances there; `None` where too few are known.

    Between the heights the log density and the log distance are interpolated; beyond the last one the density of the
    log distance goes on falling as between the last three.
    """
    from scipy.interpolate import PchipInterpolator  # not for a process that measures no tail

    with np.errstate(invalid="ignore", divide="ignore"):
        onward = np.diff(np.log(distances), prepend=-np.inf) > 1e-6
        falling = np.diff(logs, prepend=np.inf) < 0.0  # where the density rises again, another mode begins
    known = int(np.cumprod(np.isfinite(logs) & (distances > 0) & onward & falling).sum())
    if known < LEAST:
        return None
    at, logs, y = at[:known], logs[:known] - logs[0], np.log(distances[:known])
    grid = np.linspace(at[0], at[-1], 4001)
    density, far = np.exp(PchipInterpolator(at, logs)(grid)), np.exp(PchipInterpolator(at, y)(grid))
    rates = np.diff(y) / np.diff(at)
    by_log = 0.5 * (logs[1:] + logs[:-1]) - np.log(rates)  # the log density of y in the middle of each step
    index = float(-(by_log[-1] - by_log[-2]) / (0.5 * (y[-1] - y[-3])))
    if not index > 0:
        return None
    last = float(np.exp(logs[-1]) / rates[-1])
    mass, mean, square = (
        float(np.trapezoid(density * far**k, grid)) + (far[-1] ** k * last / (index - k) if index > k else np.inf)
        for k in (0, 1, 2)
    )
    below = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(grid))])
    quantile = float(np.exp(np.interp((1.0 - 0.01 / (1.0 - ANCHOR)) * mass, below, np.log(far))))
    slope = float(-np.log((1.0 - 0.99) / (1.0 - ANCHOR)) / np.log(max(quantile / far[0], 1.0 + 1e-9)))
    return _Shape(index, slope, quantile, mean / mass, square / mass, known)


def _against(draws: _Draws, column: int, way: float, beyond: np.ndarray, shape: _Shape) -> Tail:
    """The tail beside what the draws have of it."""
    weights, distances = draws.weights, way * (draws.table[:, column] - draws.median[column])
    half, share = len(weights) // 2, weights[beyond] / weights[beyond].sum()
    variance = float(weights @ distances**2 - (weights @ distances) ** 2)
    mean, square = share @ distances[beyond], share @ distances[beyond] ** 2
    return Tail(
        draws.names[column],
        "99 %" if way > 0 else "1 %",
        shape.index,
        shape.slope,
        shape.quantile,
        float(np.quantile(distances[:half], 0.99)),
        float(quantiles(distances[:, None], weights, 0.99)[0]),
        (1.0 - ANCHOR) * (shape.mean - mean) / np.sqrt(variance),
        (1.0 - ANCHOR) * (shape.square - square) / variance,
    )
