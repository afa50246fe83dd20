"""Coordinate ascent: every block set to its optimal factor in turn, the bound exact and checked as it rises."""

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import equinox as eqx
import numpy as np

from jensen._base.errors import ModelError, OptionError
from jensen._conjugate.algebra import ConjugateModel, ConjugateTarget, conjugate_target
from jensen._conjugate.algebra.partial import hybrid_target
from jensen._conjugate.algebra.target import HybridTarget
from jensen._conjugate.coordinate import hybrid
from jensen._conjugate.coordinate.ascent import Ascent, State
from jensen._conjugate.coordinate.beginnings import started
from jensen._conjugate.coordinate.board import Board, boards
from jensen._conjugate.coordinate.fit import ConjugateFit, finished
from jensen._conjugate.coordinate.optima import FAR, elsewhere
from jensen._conjugate.coordinate.plated import ascent_for
from jensen._conjugate.coordinate.relaxation import Climb
from jensen._conjugate.coordinate.search import Tally, higher_from, to_come
from jensen._conjugate.coordinate.solution import Solution, solution
from jensen._core import AbstractAlgorithm, Certificate, Outcome, Progress
from jensen._core.algorithm import Run
from jensen._math.precision import Precision, working
from jensen._program.indices import checked

WARM_UP = 15
"""Sweeps of every restart before the best one is kept."""
ROUGH = 1e-5
"""Nats per observed scalar still to come at which moves are tried where rows are streamed."""


def as_blocks(blocks: Iterable[Iterable[str]]) -> tuple[tuple[str, ...], ...]:
    """Names of sites by block, as something that can be compared and hashed."""
    return tuple(tuple(block) for block in blocks)


class CAVI(AbstractAlgorithm):
    """Coordinate ascent variational inference, derived from the model.

    With q(z) = Π_j q_j(z_j) and an exponential family for each block, the update
    log q_j*(z_j) = E_{-j}[log p(x, z)] + const has natural parameters η_j* = ∂ E_q[log p(x, z)] / ∂ E[t_j(z_j)]
    (Bishop 2006, eq. 10.9; Blei, Kucukelbir and McAuliffe 2017, eq. 18). A block update raises the bound by
    KL(q_j ‖ q_j*); the sum of these gains is compared with the exact bound after every sweep.

    Attributes:
        max_sweeps: at most this many sweeps, each of which updates every block once.
        tolerance: stop when the gain still to come, extrapolated geometrically, is below this many nats per observed
            scalar.
        restarts: number of starts, from seeds and random in turn; `None` means 4 with discrete latents and 1 without.
        blocks: sites to treat jointly, such as `(("mu", "tau"),)`; every other site is a block of its own.
        escape: whether to leave a stationary point that is not a maximum (it is reported either way).
        moves: whether components are merged, dissolved and split where that raises the bound. They are the entries of
            latents that the values of a discrete latent number, alike in the program (the means of a mixture, the
            topics of documents). Not with `init`, whose optimum is meant.
        init: starting values of some latents on their own supports; those sites are then updated last in the first
            sweep, and there is a single start.

    Example:
        >>> import numpy as np, numpyro, numpyro.distributions as dist
        >>> def coin(y):
        ...     p = numpyro.sample("p", dist.Beta(1, 1))
        ...     with numpyro.plate("n", len(y)):
        ...         numpyro.sample("y", dist.Bernoulli(p), obs=y)
        >>> import jensen as jn
        >>> fit = jn.fit(coin, {"y": np.array([1, 0, 1])}, method=jn.cavi())
        >>> round(fit.elbo.value, 4)  # log B(3, 2), and exact: one block
        -2.4849
    """

    name: ClassVar[str] = "cavi"
    max_sweeps: int = 2000
    tolerance: float = 1e-8
    restarts: int | None = None
    blocks: tuple[tuple[str, ...], ...] = eqx.field(default=(), converter=as_blocks)
    escape: bool = True
    moves: bool = True
    init: Mapping[str, Any] | None = None

    def __check_init__(self) -> None:
        if self.max_sweeps < 1:
            raise OptionError(f"max_sweeps is {self.max_sweeps}.", remedy="Allow at least one sweep.")
        if not self.tolerance > 0:
            raise OptionError(f"tolerance is {self.tolerance}.", remedy="Give a positive number of nats per row.")
        if self.restarts is not None and self.restarts < 1:
            raise OptionError(f"restarts is {self.restarts}.", remedy="Use at least one start.")

    def fit_conjugate(
        self,
        model: Callable[..., Any],
        data: Mapping[str, Any] | None = None,
        seed: int = 0,
        *,
        init: Mapping[str, Any] | None = None,
        precision: Precision = "double",
    ) -> ConjugateFit:
        """Analyse a NumPyro model and fit it.

        `init` gives starting values of some latents on their own supports; those sites are then updated last in the
        first sweep, and there is a single start. Where some latents have no conjugate factor, the fewest of them that
        leave the rest conjugate get a Gaussian on their unconstrained space (`elbo` is then an average over fresh
        draws). Raises a `ModelError` naming site, term, source line and remedy where nothing conjugate is left.
        """
        target = self.prepare(model, checked(model, data, precision), precision)
        with working(target.precision):
            return finished(self.run(target, seed, init=init))

    def prepare(
        self, model: Any, data: Mapping[str, Any] | None, precision: Precision
    ) -> ConjugateTarget | HybridTarget:
        """The expected log joint with its blocks; `single` is for streamed rows, everything else is in double."""
        try:
            return conjugate_target(model, data, blocks=self.blocks, row_precision=precision)
        except ModelError as refusal:
            if self.init or not callable(model):
                raise
            return hybrid_target(model, data, refusal, blocks=self.blocks, precision=precision)

    def run(self, target: ConjugateTarget | HybridTarget, seed: int, init: Mapping[str, Any] | None = None) -> Run:
        """Fit the analysed model, yielding the exact bound after every sweep."""
        if isinstance(target, HybridTarget):
            limits = {"max_sweeps": self.max_sweeps, "tolerance": self.tolerance, "restarts": self.restarts}
            return (yield from hybrid.run(target, seed, warm_up=WARM_UP, **limits))
        rng = np.random.default_rng(seed)
        init = self.init if init is None else init
        ascent = ascent_for(target.model, init)
        board = boards(ascent, rng) if self.moves and not init else ()
        states, tally = ([ascent.given(rng, init)], Tally()) if init else self._begun(ascent, board, rng)
        for other in reversed(states[1:]):  # the best one's sweeps come last
            own = partial(solution, ascent, other, target) if other.sweeps else None  # those on some rows have no q
            yield Progress("restart", other.sweeps, other.elbo, own)
        state, converged, saddle, more = yield from self._moved(ascent, board, states[0], target, rng)
        tally += more
        known, apart = elsewhere(ascent, state, states[1:] if ascent.stride > 1 else ())
        return Outcome(
            solution(ascent, state, target),
            converged and not (saddle and not self.escape),
            self._status(target.model, state, converged, saddle) + tally.words,
            Certificate(elbo=state.elbo, sweeps=float(state.sweeps), saddle=saddle) | known,
            restarts=tuple(s.elbo for s in states) if len(states) > 1 else (),
            elsewhere=tuple(solution(ascent, other, target) for other in apart),
        )

    def _moved(
        self,
        ascent: Ascent,
        board: tuple[Board, ...],
        state: State,
        target: ConjugateTarget,
        rng: np.random.Generator,
    ) -> Generator[Progress, None, tuple[State, bool, bool, Tally]]:
        """`climbed`, and from there to higher optima by moves of the labels as long as there are any.

        Where rows are streamed a rough climb does for the moves, and the last one is run to the end.
        """
        tally, reported, saddle = Tally(), 0, False
        loose = max(ROUGH, self.tolerance)
        while True:
            if board and ascent.stride == 1:
                state, _ = yield from self._to_convergence(ascent, state, target, reported, loose)
            else:
                state, converged, met = yield from self.climbed(ascent, state, target, rng, reported)
                saddle |= met
                if not converged:
                    return state, converged, saddle, tally
            reported = state.sweeps
            higher, moves = higher_from(board if state.total < self.max_sweeps else (), state, rng)
            tally += moves
            if higher is None:
                break
            state = higher
        if board and ascent.stride == 1:
            state, converged, met = yield from self.climbed(ascent, state, target, rng, reported)
            saddle |= met
        return state, converged, saddle, tally

    def climbed(
        self, ascent: Ascent, state: State, target: ConjugateTarget, rng: np.random.Generator, reported: int = 0
    ) -> Generator[Progress, None, tuple[State, bool, bool]]:
        """(the state at a maximum, whether the stopping rule was met, whether a saddle was met on the way)."""
        converged, saddle = False, False
        for _ in range(3):
            state, converged = yield from self._to_convergence(ascent, state, target, reported)
            if not converged:
                break
            moved = self._above(ascent, state, rng)
            if moved is None:
                break
            saddle = True
            if not self.escape:
                break
            reported, state = state.sweeps, moved
        ascent.check_rounding(state)
        return state, converged, saddle

    def _started(self, ascent: Ascent, rng: np.random.Generator) -> list[State]:
        """The random starts, best first; all of them run to convergence where a sweep costs little."""
        return self._begun(ascent, (), rng)[0]

    def _begun(self, ascent: Ascent, board: tuple[Board, ...], rng: np.random.Generator) -> tuple[list[State], Tally]:
        """(the starts, best first, that one improved by moves of the labels; the account of these)."""
        count = self.restarts or (4 if any(b.discrete for b in ascent.model.blocks.values()) else 1)
        warm_up = min(WARM_UP, self.max_sweeps - 1)
        if board:
            states, tally = started(ascent, board, rng, count, warm_up)
        else:
            states, tally = ascent.starts(rng, count, warm_up), Tally()
        if ascent.stride == 1:
            return states, tally
        for i, state in enumerate(states[1:], start=1):
            hopeless = states[0].elbo - FAR if board else -np.inf  # what ends below weighs nothing
            for last in self._strides(ascent, state):
                states[i] = replace(last, origin=state)
                if last.elbo + 2.0 * to_come(last) < hopeless:
                    break
        return sorted(states, key=lambda state: -state.elbo), tally

    def _strides(self, ascent: Ascent, state: State, tolerance: float | None = None) -> Generator[State, None, bool]:
        """The climb from a state, some sweeps at a time; returns whether it settled."""
        climb = Climb(ascent, tolerance or self.tolerance)
        while not climb.settled(state):
            left = self.max_sweeps - state.total
            if left <= 0:
                return False
            state = climb.advance(state, left)
            yield state
        return True

    def _to_convergence(
        self,
        ascent: Ascent,
        state: State,
        target: ConjugateTarget,
        reported: int = 0,
        tolerance: float | None = None,
    ) -> Generator[Progress, None, tuple[State, bool]]:
        """(the state where the climb settled, whether it did); sweeps up to number `reported` have been reported."""
        yield from self._reports(ascent, state, target, reported)
        climb = self._strides(ascent, state, tolerance)
        while True:
            before = state.sweeps
            try:
                state = next(climb)
            except StopIteration as stop:
                return state, stop.value
            yield from self._reports(ascent, state, target, before)

    def _reports(
        self, ascent: Ascent, state: State, target: ConjugateTarget, after: int
    ) -> Generator[Progress, None, None]:
        """Every sweep after number `after`, with its own bound and q."""
        for number in range(after + 1, state.sweeps + 1):
            q = partial(self._written, ascent, state, target, number)
            yield Progress("ascent", number, state.history[number - 1], q)

    def _written(self, ascent: Ascent, state: State, target: ConjugateTarget, number: int) -> Solution:
        """q after an earlier sweep: the sweeps up to there are made again."""
        found, start = ascent.at_sweep(state, number), state.origin
        if found is None and start is not None:
            found = ascent.at_sweep(start, number)
            climb = self._strides(ascent, start)
            while found is None:
                found = ascent.at_sweep(next(climb), number)
        assert found is not None  # every state knows its base, or its origin
        return solution(ascent, found, target)

    def _above(self, ascent: Ascent, state: State, rng: np.random.Generator) -> State | None:
        """A state of higher bound reached after a small random push; `None` where q falls back, as at a maximum.

        And where no q lies that way: a component of few rows, pushed, may shrink on one of them, where a likelihood is
        infinite. What the ascent has converged to is a maximum all the same.
        """
        sweeps = int(np.clip(state.total // 4, 10, 50))
        try:
            pushed = ascent.advance(ascent.pushed(state, rng), sweeps)
        except ModelError:
            return None
        margin = max(100.0 * ascent.noise(state.elbo), 10.0 * self.tolerance * ascent.model.rows)
        return state.onward(pushed, pushed.sweeps) if pushed.elbo > state.elbo + margin else None

    def _status(self, model: ConjugateModel, state: State, converged: bool, saddle: bool) -> str:
        count = f"{state.sweeps} sweeps" + (f" and {state.extra} within longer steps" if state.extra else "")
        if saddle and not self.escape:
            return (
                f"Stopped after {count} at a saddle: a small push raises the bound. "
                "Start elsewhere, or leave escape=True."
            )
        if not converged:
            return f"Stopped after {count}, the bound still rising. Allow more with max_sweeps."
        left = " A saddle was left on the way." if saddle else ""
        return f"Converged after {count}: the gain still to come is negligible.{left}{_crowded(model)}"


def _crowded(model: ConjugateModel) -> str:
    """A sentence on every discrete latent that has more values than rows."""
    notes = []
    for site in model.sites.values():
        rows = int(np.prod(site.shape, dtype=int))
        if site.values is not None and site.plates and len(site.values) > rows:
            notes.append(
                f" '{site.name}' has {len(site.values)} values but only {rows} rows: most stay at their prior."
            )
    return "".join(notes)
