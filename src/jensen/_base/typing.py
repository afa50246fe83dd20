"""The glossary: array types with the axis names used throughout jensen.

`dim` is the number of unconstrained coordinates D, `draws` the number of draws, `rows` data rows.
Every log density and every bound is in nats; bounds are oriented so that higher is better.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, Union, cast

import jax
import numpy as np
from jaxtyping import Float, Key

if TYPE_CHECKING:
    from jaxtyping import Array
else:
    Array = Union[jax.Array, np.ndarray, np.generic]  # noqa: UP007 - jaxtyping reads no other union; see `leaf`

Scalar: TypeAlias = Float[Array, ""]
PRNGKey: TypeAlias = Key[Array, ""]
Flat: TypeAlias = Float[Array, " dim"]
RowsOfFlat: TypeAlias = Float[Array, "*rows dim"]
"""One for each row, where there are rows; else one."""
Flats: TypeAlias = Float[Array, "draws dim"]
LogWeights: TypeAlias = Float[Array, " draws"]
Latent: TypeAlias = dict[str, Array]
"""Site name -> value on the site's support."""
Terms: TypeAlias = dict[str, Array]
"""Site name -> elementwise log density of that site over its plates, in nats."""
Data: TypeAlias = Mapping[str, Any]
HostArray: TypeAlias = np.ndarray


def leaf(values: np.ndarray) -> Array:
    """A NumPy array as a leaf of a module, unchanged: JAX computes with it, and on the host it stays where it is."""
    return cast(Array, values)


__all__ = [
    "Array",
    "Data",
    "Flat",
    "Flats",
    "HostArray",
    "Latent",
    "LogWeights",
    "PRNGKey",
    "RowsOfFlat",
    "Scalar",
    "Terms",
    "leaf",
]
