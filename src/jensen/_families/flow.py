"""Normalising flows on R^D: a Gaussian's location and scale around coupling or autoregressive spline layers."""

import functools
from typing import Any, ClassVar, Literal, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from jensen._base.typing import Array, Flat, Scalar, leaf
from jensen._core import AbstractReparameterised, Draw
from jensen._families.full_rank import FullRank
from jensen._families.gaussian import normal_log_prob
from jensen._families.location_scale import AbstractLocationScale

Kind = Literal["coupling", "autoregressive"]
REACH = 5.0
"""The splines bend [-REACH, REACH]; beyond, a layer leaves its input alone."""


class Skeleton:
    """What of a bijection is not trained; compared by identity, and made once for every shape (`skeleton`)."""

    def __init__(self, static: Any, treedef: Any, start: list[np.ndarray]):
        self.static, self.treedef, self.start = static, treedef, start

    def bijection(self, arrays: Any) -> Any:
        """The bijection with these arrays."""
        from paramax import unwrap

        return unwrap(eqx.combine(jax.tree.unflatten(self.treedef, list(arrays)), self.static))


@functools.lru_cache(maxsize=64)
def skeleton(kind: Kind, dim: int, condition: int, layers: int, knots: int, width: int) -> Skeleton:
    """The layers of flowjax at the identity: its networks' last weights are a hundredth of what it draws."""
    # slow to import, so only where a flow is asked for
    from flowjax import bijections
    from flowjax.distributions import StandardNormal
    from flowjax.flows import coupling_flow, masked_autoregressive_flow
    from paramax import NonTrainable

    # one coordinate has nothing to be coupled with, and its autoregressive layer sees the condition alone
    build: Any = coupling_flow if kind == "coupling" and dim > 1 else masked_autoregressive_flow
    spline = bijections.RationalQuadraticSpline(knots=knots, interval=REACH)
    with jax.enable_x64(True):
        if dim == 1 and not condition:
            bijection = _elementwise(layers, knots)
        else:
            bijection = build(
                jr.key(0),
                base_dist=StandardNormal((dim,)),
                transformer=spline,
                cond_dim=condition or None,
                flow_layers=layers,
                nn_width=width,
                nn_activation=jax.nn.tanh,
                invert=False,
            ).bijection
        bijection = _quietened(bijection)
        trained, static = eqx.partition(
            bijection, eqx.is_inexact_array, is_leaf=lambda node: isinstance(node, NonTrainable)
        )
        leaves, treedef = jax.tree.flatten(trained)
        return Skeleton(static, treedef, [np.asarray(leaf, float) for leaf in leaves])


def _elementwise(layers: int, knots: int) -> Any:
    from flowjax import bijections

    make = eqx.filter_vmap(lambda: bijections.RationalQuadraticSpline(knots=knots, interval=REACH), axis_size=1)
    return bijections.Chain([bijections.Vmap(make(), in_axes=eqx.if_array(0)) for _ in range(layers)])


def _quietened(bijection: Any) -> Any:
    """The last layer of every network times 0.01: the flow begins near the identity."""

    def is_network(node: Any) -> bool:
        return isinstance(node, eqx.nn.MLP)

    def shrink(node: Any) -> Any:
        if not is_network(node):
            return node
        last = jax.tree.map(lambda x: 0.01 * x if eqx.is_inexact_array(x) else x, node.layers[-1])
        return eqx.tree_at(lambda net: net.layers, node, (*node.layers[:-1], last))

    return jax.tree.map(shrink, bijection, is_leaf=is_network)


class Flow(AbstractReparameterised, AbstractLocationScale):
    """u = m + L T(ε), ε ~ N(0, I): T a chain of coupling (or autoregressive) rational-quadratic spline layers.

    log q(u) = log N(ε; 0, I) - log |det ∂T| - Σ log L_dd. T begins at the identity, so the flow begins as the Gaussian
    N(m, LLᵀ). Durkan et al. (2019), the layers from flowjax. Coupling layers cost the same in both directions;
    autoregressive ones draw in one pass and take D passes for the density of a given point.

    Attributes:
        first_step: step size that its layers bear at first; larger ones tear them.
        loc, log_diagonal, lower: m and L as in `FullRank`. arrays: the layers' parameters.

    Example:
        >>> import numpy as np
        >>> Flow.around(FullRank.from_factor(np.zeros(2), np.eye(2))).dim
        2
    """

    first_step: ClassVar[float] = 0.02
    loc: Flat
    log_diagonal: Flat
    lower: Array
    arrays: list[Array]
    kind: Kind = eqx.field(static=True, default="coupling")
    layers: int = eqx.field(static=True, default=4)
    knots: int = eqx.field(static=True, default=8)
    width: int = eqx.field(static=True, default=32)

    @classmethod
    def start(cls, q: FullRank, seed: int = 0) -> "Flow":
        """Four coupling layers around the Gaussian, six where there are few coordinates."""
        return cls.around(q, layers=4 if q.dim > 2 else 6, seed=seed)

    @classmethod
    def around(
        cls, q: FullRank, kind: Kind = "coupling", layers: int = 4, knots: int = 8, width: int = 32, seed: int = 0
    ) -> "Flow":
        """A flow that begins at this Gaussian, with a little noise in its layers."""
        start = skeleton(kind, int(np.shape(q.loc)[-1]), 0, layers, knots, width).start
        rng = np.random.default_rng(seed)
        arrays = [jnp.asarray(x + 0.003 * rng.normal(size=x.shape)) for x in start]
        loc, log_diagonal, lower = (jnp.asarray(x) for x in (q.loc, q.log_diagonal, q.lower))
        return cls(loc, log_diagonal, lower, arrays, kind, layers, knots, width)

    @property
    def dim(self) -> int:
        """D."""
        return self.loc.shape[-1]

    @property
    def noise_dim(self) -> int:
        """D."""
        return self.dim

    def linear(self, shift: np.ndarray, factor: np.ndarray) -> "Flow":
        """The flow of shift + factor u, factor lower triangular: the same layers."""
        own = FullRank(*(leaf(np.asarray(x, float)) for x in (self.loc, self.log_diagonal, self.lower)))
        moved = own.linear(shift, factor)
        loc, log_diagonal, lower = (jnp.asarray(x) for x in (moved.loc, moved.log_diagonal, moved.lower))
        return Flow(loc, log_diagonal, lower, self.arrays, self.kind, self.layers, self.knots, self.width)

    def _gaussian(self) -> FullRank:
        return FullRank(self.loc, self.log_diagonal, self.lower)

    def _bijection(self) -> Any:
        return skeleton(self.kind, self.dim, 0, self.layers, self.knots, self.width).bijection(self.arrays)

    def push(self, noise: Array, *, scored_by: Self | None = None) -> Draw:
        """m + L T(ε)."""
        bent, log_det = self._bijection().transform_and_log_det(noise)
        value = self._gaussian().transform(bent)
        if scored_by is None:
            log_prob = normal_log_prob(noise, self._gaussian().half_log_det()) - log_det
        else:
            log_prob = scored_by.log_prob(value)
        return Draw(value, log_prob, jnp.zeros(()), jnp.zeros(()))

    def log_prob(self, value: Flat) -> Scalar:
        """log q(u) in nats, through the inverse."""
        gaussian = self._gaussian()
        bent = jax.scipy.linalg.solve_triangular(gaussian.scale_tril(), value - self.loc, lower=True)
        noise, log_det = self._bijection().inverse_and_log_det(bent)
        return normal_log_prob(noise, gaussian.half_log_det()) + log_det
