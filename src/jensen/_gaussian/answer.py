"""Gaussians on the unconstrained space."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, ClassVar, cast

import numpy as np

from jensen._core import AbstractCheck, Outcome
from jensen._families import AbstractGaussian, FullRank, OnSupport
from jensen._gaussian import collapsing
from jensen._math import linalg
from jensen._math.clock import Stopwatch, spoken
from jensen._math.noise import normal_draws, symmetric_draws
from jensen._math.precision import Precision
from jensen._model import Target, build
from jensen._model.by_site import by_site, joined
from jensen._model.one_rotation import turns_of
from jensen._modes.relabelling import anywhere, on_supports
from jensen._nested import NestedTarget, on_chart
from jensen._nested.noncentred import centring, noncentred
from jensen._verdict.answer import CORRECTED, AbstractAnswer, Draws
from jensen._verdict.checks import (
    FiniteDensity,
    Labellings,
    LinearResponse,
    Modes,
    Moments,
    Optimiser,
    Said,
    States,
    Stationary,
    Tails,
    Weights,
)
from jensen._verdict.evidence import Decomposition, decompose
from jensen._verdict.importance import Pool, densities, draw_pool, extended, thinned, weigh, widened
from jensen._verdict.labellings import Counted, View
from jensen._verdict.moments import Agreement, compare, flatten
from jensen._verdict.packing import known, named
from jensen._verdict.states import LISTED, Probabilities, exchanged, from_marginals
from jensen._verdict.summed_likelihood import summed_likelihood
from jensen._verdict.verdict import LEAST, ruled_out

NOISE, NOISE_HEAVY = 0.05, 0.1
"""Error in sd that corrected means may have; where the data are many, and pools therefore small, it may be larger."""
STEPS, COMPILED = 10_000, 5.0
"""Gradients one after the other, and seconds of compilation, that a refinement is expected to take."""
MANY = 50
"""Coordinates from which on climbs along each of them take seconds, whatever an evaluation costs."""
REACHING = 2048
"""Draws at most that tails get for themselves where an evaluation costs much."""
CENTRED = "centred"
"""What the arrays are saved under that say how far sites are centred."""

INTEGRATED, CLOSED = "integrated", "closed"
"""What is saved under these names says how other sites are integrated out, by quadrature or in closed form."""


def untried(outcome: Outcome) -> str:
    """What to do about an untrusted fit: what neither its method nor an automatic choice of families has tried.

    Empty where all of it has been: `onward` says how NUTS goes on.
    """
    tried = " ".join([*(str(row["family"]) for row in outcome.stages), type(outcome.q).__name__])
    steps = []
    if not any(name in tried for name in ("full rank", "FullRank", "curvature")):
        steps.append("fit with method=jn.advi(family='full_rank')")
    if not outcome.stages:
        steps += ["take method='auto'", "write hierarchical scales non-centred"]
    elif not any(name in tried for name in ("mixture", "Mixture", "flow")):
        steps.append("let jn.auto(escalate=True) try mixtures and flows, which take longer")
    sentence = " or ".join([", ".join(steps[:-1]), *steps[-1:]] if len(steps) > 1 else steps)
    return f"{sentence[0].upper()}{sentence[1:]}." if sentence else ""


class GaussianAnswer(AbstractAnswer):
    """q(u) Gaussian over u ∈ R^D, pushed onto the latents' supports by the model's bijection."""

    kind: ClassVar[str] = "gaussian"
    approximates: ClassVar[type] = AbstractGaussian

    def __init__(self, target: Target, outcome: Outcome, seed: int):
        self.target, self.outcome, self.seed = target, outcome, seed
        self.grows, self.costly = not target.dear, target.dear or target.dim >= MANY
        self.structure, self.program = target.structure, target.program
        self.advice = {"usable": CORRECTED, "untrusted": untried(outcome)}

    @property
    def q(self) -> AbstractGaussian:
        """The Gaussian on the unconstrained space."""
        return cast(AbstractGaussian, self.outcome.q)

    @property
    def approximation(self) -> OnSupport:
        """q on the latents' supports."""
        return OnSupport(base=self.q, bijection=self.target.model.bijection)

    def elbo(self, seed: int) -> tuple[float, float]:
        """On fresh mirrored draws."""
        target, q = self.target, self.q
        count = 32 if target.heavy else max(512, 2 * (target.dim // 4))
        points = q.host_transform(symmetric_draws(count, q.noise_dim, seed + 15485863))
        ratios = target.value(points) - q.host_log_prob(points)
        pairs = ratios.reshape(2, -1).mean(axis=0)  # mirrored draws are not independent, pairs of them are
        error = float(pairs.std() / np.sqrt(len(pairs))) if np.isfinite(pairs).all() else np.inf
        return float(ratios.mean()), error

    def pool(self, seed: int) -> Pool:
        """Half from q, half from a Student-t of its scatter."""
        return draw_pool(self.target, self.q, seed, self.outcome.linear_response)

    def _densities(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """log q and log proposal over R^D."""
        return densities(self.q, widened(self.q, self.outcome.linear_response), points)

    def settled_pool(self, seed: int) -> Pool:
        """With draws of their own for tails that those of q and its relative fall short of."""
        pool = super().settled_pool(seed)
        # from 1 on weights have no mean, and tell no tail; where tails are dear, none that the verdict would not heed
        if ruled_out(pool) if self.costly else not (pool.khat < 1.0 or pool.even):
            return pool
        proposals = self.tails(pool, {}, seed).reaching()
        if proposals is None or self.labellings(pool).found:
            return pool
        target = self.unconstrained(pool, {})[0]
        count = min(REACHING if target.dear else pool.half, pool.half // 2)
        pool = thinned(pool, 4 * count)
        far = proposals.draw(count, seed)
        further = weigh(far, target.value(far), *self._densities(far))
        return extended(pool, further, proposals.log_prob(np.concatenate([pool.points, far])))

    def view(self, pool: Pool) -> View | None:
        """The latents on their supports."""
        if not any(max(site.shape, default=0) > 1 for site in self.structure.latents):
            return None
        target = self.target

        def on_support(values: Draws) -> tuple[np.ndarray, np.ndarray]:
            points, log_det = joined(target, values)
            log_q, log_proposal = self._densities(points)
            return log_q - log_det, log_proposal - log_det

        states = [len(site.values) for site in self.structure.summed if site.values is not None]
        values, log_joint = by_site(target, pool.points), on_supports(target)
        elsewhere = by_site(target, anywhere(target.dim))
        return View(values, log_joint, on_support, states, None, target.eps, target.heavy, elsewhere)

    def labellings(self, pool: Pool) -> Counted:
        """With what turns, where q is of one rotation."""
        turning = tuple(tuple(name for name, _ in turn.axes) for turn in turns_of(self.target))
        return replace(super().labellings(pool), turned=turning) if turning else super().labellings(pool)

    def draws_of(self, pool: Pool) -> Draws:
        """The pool's points, pushed onto the supports; without discrete latents that were summed out."""
        return self.target.constrain(pool.points)

    def resampled(self, pool: Pool, draws: Draws, rows: np.ndarray, seed: int) -> Draws:
        """With draws of the latents that were summed or integrated out, given each row's others."""
        if not self.structure.conditional:
            return super().resampled(pool, draws, rows, seed)
        return self.target.complete(pool.points[rows], seed)

    def places(self, count: int) -> tuple[int, int]:
        """As the target has it."""
        return self.target.places(count)

    def marginals(self, points: np.ndarray) -> Draws:
        """Exact at each point, and averaged."""
        return self.target.marginals(points) if self.structure.summed else {}

    def pointwise(self, draws: Draws, names: list[str]) -> Draws:
        """With discrete latents summed out row by row where that leaves one observed site, else given their draws."""
        if not self.structure.conditional or self.program is None:
            return super().pointwise(draws, names)
        if not self.structure.summed:
            return self.program.pointwise({s.name: draws[s.name] for s in self.structure.drawn}, names)
        summed = summed_likelihood(self.target, draws, names)
        rest = [name for name in names if name not in summed]
        latents = {site.name: draws[site.name] for site in self.structure.drawn}
        return {**summed, **(self.program.pointwise(latents, rest) if rest else {})}

    def sample(self, count: int, seed: int) -> Draws:
        """Fresh draws of q."""
        noise = np.random.default_rng([seed, self.seed]).normal(size=(count, self.q.noise_dim))
        return self.target.complete(self.q.host_transform(noise), seed)

    @property
    def gaussian(self) -> AbstractGaussian:
        """A Gaussian of q's shape: q itself."""
        return self.q

    def checks(self) -> tuple[AbstractCheck, ...]:
        """Other modes, weights, moments, Hamiltonian drift."""
        return (
            Labellings(),
            Modes(),
            Optimiser(),
            FiniteDensity(),
            Moments(NOISE_HEAVY if self.target.heavy else NOISE),
            States(),
            Stationary(self.gaussian),
            LinearResponse(),
            Weights(share=LEAST if self.target.heavy else 1.0),
            Tails(),
            *(Said(title, *said) for title, said in self.target.remarks.items()),
        )

    def _listed(self) -> list[str]:
        sizes = {s.name: np.prod(s.shape, dtype=int) * len(s.values) for s in self.structure.summed}  # type: ignore[arg-type]
        return [name for name, size in sizes.items() if size <= LISTED]

    def exchanged(self, pool: Pool) -> set[str]:
        """Of those that are listed, by their probabilities at points and at what renumberings make of these."""
        if not self._listed():
            return set()
        found = self.labellings(pool).found
        return {name for one in found for name in exchanged(self.target, one, pool.points[:2], self._listed())}

    def probabilities(self, pool: Pool, draws: Draws, without: Collection[str] = ()) -> dict[str, Probabilities]:
        """Exact given the continuous latents, and averaged."""
        small = [name for name in self._listed() if name not in without]
        return from_marginals(self.target, pool, small, self.seed + 5) if small else {}

    def unconstrained(self, pool: Pool, draws: Draws, always: bool = False) -> tuple[Any, np.ndarray, np.ndarray]:
        """The pool is there already; what is asked far out is asked of the program, where tails can be afforded."""
        del draws
        program = self.target.origin
        return program if always or not program.heavy else self.target, pool.points, pool.weights

    def onward(self, pool: Pool) -> str:
        """By the time of a few gradients."""
        few, program = pool.points[:4], self.target.origin
        program.value_and_grad(few)
        watch = Stopwatch()
        program.value_and_grad(few)
        seconds = COMPILED + STEPS * watch.read()["total"]
        return f"NUTS goes on from here in about {spoken(seconds)}: fit.refine()."

    def agreement(self, pool: Pool, draws: Draws) -> Agreement:
        """Of draws, deterministic sites included."""
        return compare(draws, pool.weights, {site.name for site in self.structure.latents}, pool.own_weights)

    def decompose(self, log_evidence: float, seed: int, num_draws: int | None) -> Decomposition:
        """On one set of symmetric draws."""
        return decompose(self.target, self.q, log_evidence, seed, num_draws)

    def linear_response(self, names: list[str]) -> np.ndarray | None:
        """Σ_LR pushed through draws of N(m, Σ_LR)."""
        covariance = self.outcome.linear_response
        if covariance is None:
            return None
        q = FullRank.from_factor(np.asarray(self.q.loc, float), linalg.cholesky(covariance))
        wide = self.target.constrain(q.host_transform(normal_draws(4096, q.dim, self.seed)))
        table, all_names = flatten(wide)
        by_name = dict(zip(all_names, table.std(axis=0), strict=True))
        return np.array([by_name[name] for name in names])

    def parameters(self) -> dict[str, np.ndarray]:
        """The Gaussian's own arrays, under its family's name."""
        family = type(self.q).__name__
        return {f"{family}/{name}": np.asarray(value) for name, value in vars(self.q).items()} | self._chart()

    def _chart(self) -> dict[str, np.ndarray]:
        """How far sites are centred and which are integrated out, where the coordinates are not the model's own."""
        closed = collapsing.chart(self.target)
        if closed:
            return {f"{CLOSED}/{name}": value for name, value in closed.items()}
        inner = self.target.chart() if isinstance(self.target, NestedTarget) else {}
        integrated = {f"{INTEGRATED}/{name}": value for name, value in inner.items()}
        return integrated | {f"{CENTRED}/{name}": np.asarray(value) for name, value in centring(self.target).items()}

    @staticmethod
    def on_chart(target: Any, parameters: Mapping[str, np.ndarray]) -> Any:
        """The target in non-centred coordinates, or with sites integrated out, where q was fitted in such."""
        start = f"{CLOSED}/"
        known = {name.removeprefix(start): value for name, value in parameters.items() if name.startswith(start)}
        if known:
            return collapsing.on_chart(target, known)
        start = f"{INTEGRATED}/"
        known = {name.removeprefix(start): value for name, value in parameters.items() if name.startswith(start)}
        target = on_chart(target, known) if known else target
        start = f"{CENTRED}/"
        centred = {name.removeprefix(start): value for name, value in parameters.items() if name.startswith(start)}
        return noncentred(target, centred) if centred else target

    @staticmethod
    def restored(parameters: Mapping[str, np.ndarray], target: Any | None) -> AbstractGaussian:
        """The Gaussian with these arrays; it needs no model."""
        del target
        charts = (f"{CENTRED}/", f"{INTEGRATED}/", f"{CLOSED}/")
        own = {name: value for name, value in parameters.items() if not name.startswith(charts)}
        family = next(iter(own), "").partition("/")[0]
        return known(family, named(AbstractGaussian))(**{name.partition("/")[2]: value for name, value in own.items()})

    @staticmethod
    def prepared(model: Any, data: Any, precision: Precision, options: Mapping[str, Any]) -> Target:
        """The log density over R^D."""
        del options
        return build(model, data, precision)
