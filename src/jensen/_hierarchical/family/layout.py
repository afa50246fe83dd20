"""Where the rows of a plate are in the parameters that a hierarchical family draws."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, Flat


def _pairs(parts: Any) -> tuple[tuple[int, tuple[int, ...]], ...]:
    return tuple((int(axis), tuple(int(n) for n in np.ravel(shape))) for axis, shape in parts)


class RowLayout(eqx.Module):
    """Where the rows are in ψ, which lists λ site by site: for each site the axis of its rows and its other axes.

    Example:
        >>> import numpy as np
        >>> RowLayout([(0, (2,)), (0, ())]).split(np.arange(6.0)).tolist()  # two rows: of (2, 2) and of (2,)
        [[0.0, 1.0, 4.0], [2.0, 3.0, 5.0]]
    """

    sites: tuple[tuple[int, tuple[int, ...]], ...] = eqx.field(static=True, converter=_pairs)

    @property
    def width(self) -> int:
        """Entries of ψ in a row."""
        return sum(int(np.prod(shape, dtype=int)) for _, shape in self.sites)

    def split(self, point: Any) -> Any:
        """ψ as (rows, width)."""
        rows, start, parts = point.shape[0] // self.width, 0, []
        for axis, rest in self.sites:
            size = rows * int(np.prod(rest, dtype=int))
            whole = point[start : start + size].reshape((*rest[:axis], rows, *rest[axis:]))
            parts.append(jnp.moveaxis(whole, axis, 0).reshape(rows, -1))
            start += size
        return jnp.concatenate(parts, axis=1)

    def join(self, table: Array) -> Flat:
        """The inverse of `split`."""
        start, parts = 0, []
        for axis, rest in self.sites:
            size = int(np.prod(rest, dtype=int))
            own = table[:, start : start + size].reshape((table.shape[0], *rest))
            parts.append(jnp.reshape(jnp.moveaxis(own, 0, axis), -1))
            start += size
        return jnp.concatenate(parts)

    def gather(self, arrays: list[Array]) -> Array:
        """Arrays over the sites' λ, each with further axes behind, as (rows, ...)."""
        moved = [jnp.moveaxis(array, axis, 0) for array, (axis, _) in zip(arrays, self.sites, strict=True)]
        return jnp.concatenate([jnp.reshape(array, (array.shape[0], -1)) for array in moved], axis=1)
