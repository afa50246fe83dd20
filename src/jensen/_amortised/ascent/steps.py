"""Steps of Adam over minibatches of rows, a chunk of them in one program, and a climb at one step size."""

from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from jensen._amortised.model import RowModel, RowTarget
from jensen._amortised.row_estimator import Learned, RowEstimator
from jensen._core import AbstractBound
from jensen._math.noise import key_data, key_of
from jensen._math.precision import float_type
from jensen._math.programs import Program

ADAM = optax.scale_by_adam(b1=0.9, b2=0.999)
SHARED, MOST = 10.0, 0.1
"""Shared factors move so many times the step size, at most `MOST`: in their own sds, or as ρ of natural steps."""
RECENT = 3.0
"""η of polynomial averaging: iterate t of a stage enters with weight (η + 1) / (t + η) (Shamir and Zhang 2013)."""


class Steps:
    """A chunk of steps in one program; `count` steps of `batch` rows each, its draws those of the chunk's number."""

    def __init__(
        self, target: RowTarget, estimator: RowEstimator, bound: AbstractBound, batch: int, heavy: bool, seed: int
    ):
        self.target, self.estimator, self.batch, self.seed = target, estimator, batch, seed
        self.model = target.model(batch)
        per_epoch = max(1, target.size // batch)
        self.count = int(np.clip(per_epoch, 50, 400))
        self.epochs = 0.0
        self.rng = np.random.default_rng(seed)
        self._order = np.zeros(0, int)
        self._data = {name: jax.device_put(value) for name, value in target.rows.items()}
        self._program = Program(
            lambda *given: _chunk(estimator, bound, target.size, *given), "middle" if heavy else False
        )

    def rows(self) -> np.ndarray:
        """Indices (count, batch): random permutations one after the other, what is left over waiting for none."""
        wanted = self.count * self.batch
        parts, have = [self._order], len(self._order)
        whole = self.target.size // self.batch * self.batch
        while have < wanted:
            parts.append(self.rng.permutation(self.target.size)[:whole])
            have += whole
        order = np.concatenate(parts)
        self._order = order[wanted:]
        return order[:wanted].reshape(self.count, self.batch).astype(np.int32)

    def __call__(
        self, learned: Learned, average: Learned, state: Any, done: int, rate: float, natural: bool, number: int
    ) -> Any:
        """(state of everything after the chunk, bounds of the steps, which of them were finite)."""
        kind = float_type(self.target.precision)
        given = (self.rows(), key_data(self.count, self.seed, number), kind(rate), kind(done), natural)
        found = self._program(self.model, self._data, learned, average, state, *given)
        self.target.gradients += self.count * self.batch * self.estimator.num_draws
        self.epochs += self.count * self.batch / self.target.size
        *moved, values, fine = found
        return *moved, np.asarray(values, float), np.asarray(fine)


def units(learned: Learned) -> Learned:
    """The unit of every number: one, and for the location of what rows share its own sd."""
    ones, shared = jax.tree.map(jnp.ones_like, learned), learned.q.shared
    moved = jax.vmap(shared.transform)(jnp.eye(shared.noise_dim, dtype=shared.loc.dtype)) - shared.loc
    sds = jnp.sqrt(jnp.sum(moved**2, axis=0))
    own = jax.tree.map(lambda leaf: jnp.ones_like(leaf) * (sds[:, None] if leaf.ndim == 2 else 1.0), shared)
    own = eqx.tree_at(lambda q: q.loc, own, sds)
    return eqx.tree_at(lambda x: x.q.shared, ones, own)


def _chunk(
    estimator: RowEstimator,
    bound: AbstractBound,
    size: int,
    model: RowModel,
    data: Any,
    learned: Learned,
    average: Learned,
    state: Any,
    index: Any,
    keys: Any,
    rate: Any,
    done: Any,
    natural: Any,
) -> Any:
    scale, pace = size / model.rows, jnp.minimum(SHARED * rate, MOST)
    structured = learned.q.form.natural
    start, back = ravel_pytree(learned)  # one vector: a step is then a few operations, however many arrays there are

    def body(carry: Any, item: Any) -> Any:
        flat, average, state, t = carry
        rows, key = item
        own = {name: value[rows] for name, value in data.items()}
        now = back(flat)
        given, shared = (bound, model.at(own), now, own, scale, key_of(key)), now.q.shared
        if structured:
            value, slope, pull, excess = estimator.natural(*given)
            slope = eqx.tree_at(lambda x: x.q.shared, slope, shared.unwhitened(slope.q.shared.loc, excess))
            moved = shared.stepped(pull, excess, pace)
        else:
            (value, slope), moved = estimator.gradient(*given), None
        unit = ravel_pytree(units(now))[0]
        paces = eqx.tree_at(lambda x: x.q.shared, ones, jax.tree.map(lambda u: pace / rate * u, ones.q.shared))
        stepped: Any = ADAM.update(ravel_pytree(slope)[0] * unit / size, state)
        update, new_state = stepped
        new = flat + rate * ravel_pytree(paces)[0] * unit * update
        if moved is not None:
            after = back(new)
            chosen = jax.tree.map(lambda a, b: jnp.where(natural, a, b), moved, after.q.shared)
            new = ravel_pytree(eqx.tree_at(lambda x: x.q.shared, after, chosen))[0]
        fine = jnp.isfinite(value) & jnp.isfinite(new).all() & jnp.isfinite(new_state.nu).all()
        flat, state = jax.tree.map(lambda a, b: jnp.where(fine, a, b), (new, new_state), (flat, state))
        weight = jnp.minimum(1.0, (RECENT + 1.0) / (t + RECENT))
        return (flat, average + weight * (flat - average), state, t + 1.0), (value, fine)

    ones = jax.tree.map(jnp.ones_like, learned)
    first = (start, ravel_pytree(average)[0], state, done + 1.0)
    (flat, mean, state, _), (values, fine) = jax.lax.scan(body, first, (index, keys))
    return back(flat), back(mean), state, values, fine


def fresh(learned: Any) -> Any:
    """Adam's state before the first step."""
    return ADAM.init(ravel_pytree(learned)[0])


@dataclass(frozen=True)
class Climb:
    """Steps of one size from one place: where they are, their average, Adam's state, and the bounds of the last chunk.

    Attributes:
        rate: the step size. natural: whether what rows share takes natural-gradient steps, if its form has them.
        done: steps so far. values, fine: bounds of the last chunk's steps, and which were finite.
    """

    rate: float
    current: Learned
    average: Learned
    state: Any
    natural: bool = False
    done: int = 0
    values: np.ndarray = field(default_factory=lambda: np.zeros(0))
    fine: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))

    @classmethod
    def at(cls, learned: Learned, rate: float, natural: bool = False) -> "Climb":
        """Before the first step."""
        return cls(rate, learned, learned, fresh(learned), natural)

    def after(self, steps: Steps, number: int) -> "Climb":
        """One chunk later, with the draws of this number."""
        current, average, state, values, fine = steps(
            self.current, self.average, self.state, self.done, self.rate, self.natural, number
        )
        return Climb(self.rate, current, average, state, self.natural, self.done + steps.count, values, fine)

    @property
    def rejected(self) -> int:
        """Steps of the last chunk that were not taken."""
        return int((~self.fine).sum())

    @property
    def mean(self) -> float:
        """The mean bound of the last chunk."""
        return float(self.values[self.fine].mean()) if self.fine.any() else -np.inf

    @property
    def reached(self) -> float:
        """The mean bound of the last quarter of the last chunk; minus infinity where many steps were not finite."""
        quarter = 3 * len(self.values) // 4
        tail = self.values[quarter:][self.fine[quarter:]]
        return float(tail.mean()) if len(tail) and self.fine.mean() > 0.9 else -np.inf
