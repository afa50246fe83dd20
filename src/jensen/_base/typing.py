"""The glossary: array types with the axis names used throughout jensen.

`dim` is the number of unconstrained coordinates D, `draws` the number of draws, `rows` data rows.
Every log density and every bound is in nats; bounds are oriented so that higher is better.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias, cast

import numpy as np
from jaxtyping import Array, Float, Key

Scalar: TypeAlias = Float[Array, ""]
PRNGKey: TypeAlias = Key[Array, ""]
Flat: TypeAlias = Float[Array, " dim"]
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


__all__ = ["Array", "Data", "Flat", "Flats", "HostArray", "Latent", "LogWeights", "PRNGKey", "Scalar", "Terms", "leaf"]
