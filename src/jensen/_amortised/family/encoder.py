"""From a row's data to the parameters of its factor: a network of one's own, or one built from the data's shapes."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jensen._amortised.family.row_factors import Shape
from jensen._base.errors import OptionError
from jensen._base.typing import Array

SMALLEST, LARGEST = 32, 256
"""Units of a hidden layer of the network that is built."""
SPREAD = -1.0
"""Log sd at which the factors begin."""


class Network(eqx.Module):
    """Raw = S x + MLP(x) + b on standardised inputs, silu between layers: linear encoders are among its members.

    Attributes:
        centre, scale: of the inputs. weights, biases: of the layers. skip: S.
    """

    centre: Array
    scale: Array
    weights: list[Array]
    biases: list[Array]
    skip: Array

    def __call__(self, row: Array) -> Array:
        """The parameters of one row's factor."""
        x = (row - jax.lax.stop_gradient(self.centre)) / jax.lax.stop_gradient(self.scale)
        hidden = x
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = jax.nn.silu(weight @ hidden + bias)
        return self.weights[-1] @ hidden + self.biases[-1] + self.skip @ x


def network(features: np.ndarray, shape: Shape, hidden: Sequence[int] | None, seed: int) -> Network:
    """A network for these rows (rows, features); two hidden layers between the inputs' size and the outputs'."""
    rng = np.random.default_rng([seed, 17])
    inputs, outputs = features.shape[1], shape.size
    width = int(np.clip(2 ** np.ceil(np.log2(np.sqrt(4.0 * inputs * outputs))), SMALLEST, LARGEST))
    sizes = [inputs, *(hidden if hidden is not None else (width, width)), outputs]
    centre, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 1e-6 * (1.0 + np.abs(centre)), scale, 1.0)
    weights = [rng.normal(size=(b, a)) / np.sqrt(a) for a, b in itertools.pairwise(sizes)]
    weights[-1] = 0.1 * weights[-1]
    biases = [np.zeros(b) for b in sizes[1:]]
    biases[-1][shape.dim : shape.dim + shape.dim] = SPREAD
    skip = 0.1 * rng.normal(size=(outputs, inputs)) / np.sqrt(inputs)
    kind = features.dtype
    leaves = jax.tree.map(lambda a: jnp.asarray(a, kind), (centre, scale, weights, biases, skip))
    return Network(*leaves)


class Static:
    """What of an encoder is no array, compared by identity."""

    rest: Any
    inputs: tuple[str, ...]
    missing: frozenset[str]
    flat: bool

    def __init__(self, rest: Any, inputs: tuple[str, ...], missing: frozenset[str], flat: bool):
        self.rest, self.inputs, self.missing, self.flat = rest, inputs, missing, flat


class Encoder(eqx.Module):
    """A network over rows. `arrays` are what is learned of it.

    Where the network is the user's it is called with one row: the array itself where the rows are one argument, else
    a dict by argument. Missing values are zeros; the network that is built sees which they were.
    """

    arrays: Any
    static: Static = eqx.field(static=True)

    @property
    def module(self) -> Any:
        """The network with its learned arrays."""
        return eqx.combine(self.arrays, self.static.rest)

    def __call__(self, rows: Mapping[str, Array]) -> Array:
        """(rows, numbers) for stacked rows."""
        module = self.module
        if self.static.flat:
            return jax.vmap(module)(features(rows, self.static.inputs, self.static.missing))
        kind = jnp.result_type(float)
        known = {n: jnp.nan_to_num(jnp.asarray(rows[n], kind)) for n in self.static.inputs}
        given = next(iter(known.values())) if len(known) == 1 else known
        return jax.vmap(lambda row: joined(module(row)))(given)


def features(rows: Mapping[str, Any], inputs: Sequence[str], missing: frozenset[str]) -> Array:
    """Rows as one matrix, with an indicator for every entry of the arguments that have missing values."""
    columns, kind = [], jnp.result_type(float)
    for name in inputs:
        value = jnp.asarray(rows[name], kind).reshape(np.shape(rows[name])[0], -1)
        columns.append(jnp.nan_to_num(value))
        if name in missing:
            columns.append(jnp.asarray(jnp.isnan(value), kind))
    return jnp.concatenate(columns, axis=1)


def joined(tree: Any) -> Array:
    """Every array of the encoder's answer, one after the other."""
    leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)]
    return jnp.concatenate(leaves) if len(leaves) > 1 else leaves[0]


def encoder_for(
    rows: Mapping[str, np.ndarray],
    shape: Shape,
    given: Any,
    inputs: Sequence[str],
    hidden: Sequence[int] | None,
    seed: int,
) -> Encoder:
    """The encoder for these rows, checked on the shape of what it returns."""
    kind = jnp.result_type(float)
    missing = frozenset(n for n in inputs if rows[n].dtype.kind == "f" and np.isnan(rows[n]).any())
    if given is None:
        known = np.asarray(features(rows, inputs, missing), kind)
        arrays, rest = eqx.partition(network(known, shape, hidden, seed), eqx.is_inexact_array)
        return Encoder(arrays, Static(rest, tuple(inputs), missing, True))
    if not callable(given):
        raise OptionError(
            f"The encoder is a {type(given).__name__}, which cannot be called.",
            "Option: encoder of amortised.",
            "Pass an equinox module: a function of one row whose arrays are learned.",
        )
    arrays, rest = eqx.partition(given, eqx.is_inexact_array)
    if not jax.tree.leaves(arrays):
        raise OptionError(
            "The encoder holds no arrays, so there is nothing in it to learn.",
            f"Option: encoder of amortised, {type(given).__name__}.",
            "Pass an equinox module, eqx.nn.MLP(...) say, not a plain function.",
        )
    arrays = jax.tree.map(lambda a: jnp.asarray(a, kind), arrays)
    found = Encoder(arrays, Static(rest, tuple(inputs), missing, False))
    two = {name: jax.ShapeDtypeStruct((2, *rows[name].shape[1:]), kind) for name in inputs}
    try:
        answer = jax.eval_shape(lambda e, r: e(r), found, two)
    except Exception as error:
        shapes = ", ".join(f"{name} {rows[name].shape[1:]}" for name in inputs)
        first = str(error).strip().splitlines()
        raise OptionError(
            f"The encoder cannot read a row: {type(error).__name__}: {first[0] if first else ''}",
            f"Option: encoder of amortised; one row is {shapes}{' in a dict' if len(inputs) > 1 else ''}.",
            "Make it a function of one row; inputs=[...] chooses the arguments that it sees.",
        ) from error
    if answer.shape != (2, shape.size):
        raise OptionError(
            f"The encoder returns {answer.shape[-1]} numbers for each row, but the factors need {shape.size}.",
            "Option: encoder of amortised.",
            f"It must return {shape}.",
        )
    return found
