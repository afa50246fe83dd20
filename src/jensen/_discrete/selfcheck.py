"""Tables of the factors against the program itself, at random values of all latents."""

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array
from jensen._discrete.layout import DiscreteLayout, Mode
from jensen._discrete.program import Piece, pieces_of, run
from jensen._discrete.table import full
from jensen._program.on_host import HostProgram

if TYPE_CHECKING:
    from jensen._model.numpyro import NumPyroModel

REPEATS = 4
"""Random assignments for each latent by itself, and for all together."""


def contradicted(model: "NumPyroModel", layout: DiscreteLayout, seed: int = 0) -> list[str]:
    """Names of the discrete latents whose mode the program contradicts.

    Each latent in turn takes random values entry by entry while the others are constant, then all do; every factor's
    elementwise log density must be the entry of its table that the values select.
    """
    rng = np.random.default_rng(seed)
    sites = layout.sites
    varied = [name for name in sites for _ in range(REPEATS)] + [""] * REPEATS
    index: dict[str, Any] = {name: [] for name in sites}
    for repeat, chosen in enumerate(varied):
        for name, site in sites.items():
            count, values = int(np.prod(site.shape, dtype=int)), len(site.values)
            if chosen not in ("", name):
                one = np.full(count, rng.integers(values))
            elif repeat % REPEATS:  # all values as often as each other, so that few entries differ for sure
                one = rng.permutation((np.arange(count) + rng.integers(values)) % values)
            else:
                one = rng.integers(values, size=count)
            index[name].append(one.reshape(site.shape))
    points = 0.5 * rng.normal(size=(len(varied), model.bijection.dim)).astype(jnp.result_type(float))
    stacked = {name: np.stack(values).astype(np.int32) for name, values in index.items()}
    wrong = _compare(model, layout, points, stacked)
    blamed = list(dict.fromkeys(name for name, bad in zip(varied, wrong, strict=True) if bad and name))
    if blamed or not wrong.any():
        return blamed
    return [name for name, site in sites.items() if site.mode is not Mode.EACH][:1] or list(sites)[:1]


def _compare(
    model: "NumPyroModel", layout: DiscreteLayout, points: np.ndarray, index: dict[str, np.ndarray]
) -> np.ndarray:
    tolerance = 1e-3 if jnp.result_type(float) == jnp.float32 else 1e-7

    def one(model: "NumPyroModel", point: Any, index: dict[str, Any]) -> Any:
        latent, _ = model.bijection.forward(point)
        pieces, _ = pieces_of(model.fn, model.data, model.fixed.value, latent, layout)
        values = {name: jnp.asarray(site.values)[index[name]] for name, site in layout.sites.items()}
        done = run(model.fn, model.kwargs, {**latent, **values})
        positions = {axis: at for name, s in layout.sites.items() for axis, at in s.positions(index[name]).items()}
        bad = jnp.zeros((), bool)
        for piece in pieces:
            if not piece.table.axes:
                continue
            direct: Array = done.log_probs[piece.names[0]]
            found: Array = _entry(piece, positions)
            if piece.names[0] in done.masks:
                mask = done.masks[piece.names[0]]
                direct, found = jnp.where(mask, direct, 0.0), jnp.where(mask, found, 0.0)
            same = (direct == found) | (jnp.isnan(direct) & jnp.isnan(found))
            near = jnp.abs(direct - found) <= tolerance * (1.0 + jnp.abs(direct))
            bad |= ~jnp.all(same | near)
        return bad

    program = HostProgram(one)

    def wrong(i: int) -> bool:  # what NumPy finds apart is compiled and compared again
        given = model, points[i], {name: values[i] for name, values in index.items()}
        return bool(program.on_host(*given)) and bool(program(*given))

    return np.array([wrong(i) for i in range(len(points))])


def _entry(piece: Piece, positions: dict[int, Any]) -> Any:
    """The table's entry for every row, at the rows' values of the latents."""
    array = full(piece.table, piece.shape).array
    seen: dict[int, Any] = {
        axis: jnp.reshape(positions[axis], (-1,))[np.maximum(index, 0)] for axis, index in piece.picks.items()
    }
    where = [jnp.broadcast_to(seen.get(axis, positions[axis]), piece.shape) for axis in piece.table.axes]
    rows = jnp.meshgrid(*(jnp.arange(n) for n in piece.shape), indexing="ij") if piece.shape else []
    return array[(*where, *rows)]
