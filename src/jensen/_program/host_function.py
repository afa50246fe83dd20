"""A log density that JAX cannot trace: plain NumPy or a simulator, called back from compiled programs."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.errors import DataError, ModelError
from jensen._data.arguments import Given
from jensen._program.structure import Site, Structure
from jensen._program.user_code import user_frame, written_to


class HostFunction:
    """`fn(z, **data) -> float` on NumPy arrays, as a function that compiled programs can call.

    A failure inside a compiled program cannot be raised there: the value is then not a number, and `failure` holds the
    error with the latent values that caused it. Compared by identity.

    Attributes:
        batched: whether `fn` also takes stacked latents, (draws, ...), and returns (draws,).
        calls: how often `fn` was called.
        failure: the first error met, if any.
    """

    def __init__(self, fn: Callable[..., Any], sites: tuple[Site, ...], data: Mapping[str, Any]):
        self.fn, self.sites = fn, sites
        self.data = jax.tree.map(lambda v: np.asarray(v) if isinstance(v, Given) else v, dict(data))
        self.batched, self.calls = False, 0
        self.failure: ModelError | DataError | None = None

    @property
    def __name__(self) -> str:
        return getattr(self.fn, "__name__", "fn")

    def __call__(self, latent: Mapping[str, Any], **data: Any) -> Any:
        """The log density as a JAX value; the data are those it was made with."""
        del data
        # A callback's thread does not know the precision in force here and would round doubles: words are passed.
        kind = np.dtype(jnp.result_type(float))
        values = {site.name: _words(jax.lax.stop_gradient(latent[site.name]), site) for site in self.sites}
        answer = functools.partial(self._answer, kind)
        out = jax.ShapeDtypeStruct((kind.itemsize // 4,), jnp.uint32)
        words = jax.pure_callback(answer, out, values, vmap_method="broadcast_all")
        return jax.lax.bitcast_convert_type(words if kind.itemsize > 4 else words[0], kind)

    def _answer(self, kind: np.dtype, words: Mapping[str, Any]) -> np.ndarray:
        """Words of the values for stacked latents; the stack may have any number of axes."""
        values = {site.name: _read(np.asarray(words[site.name]), kind, site) for site in self.sites}
        first = self.sites[0]
        stack = values[first.name].shape[: values[first.name].ndim - len(first.shape)]
        rows = {s.name: values[s.name].reshape(-1, *s.shape) for s in self.sites}
        return self._value(rows).reshape(*stack, 1).astype(kind).view(np.uint32)

    def _value(self, rows: Mapping[str, np.ndarray]) -> np.ndarray:
        """`evaluate`, with a failure kept for later."""
        count = len(next(iter(rows.values())))
        if self.failure is None:
            try:
                return self.evaluate(rows)
            except (ModelError, DataError) as error:
                self.failure = error
        return np.full(count, np.nan)

    def evaluate(self, rows: Mapping[str, np.ndarray]) -> np.ndarray:
        """log p at stacked latents (draws, ...): (draws,), checked."""
        count = len(next(iter(rows.values())))
        if self.batched:
            return self._checked(self._called(rows), rows, (count,))
        single = ({name: value[i] for name, value in rows.items()} for i in range(count))
        return np.array([float(self._checked(self._called(one), one, ())) for one in single])

    def _called(self, latent: Mapping[str, np.ndarray]) -> Any:
        self.calls += 1
        try:
            return self.fn(dict(latent), **self.data)
        except Exception as error:
            written = written_to(error, self.data)
            if written is not None:
                raise written from error
            message = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
            place = user_frame(error)
            raise ModelError(
                f"The log density raised {type(error).__name__}: {message}.",
                f"{f'At {place}. ' if place else ''}Latents: {shown(latent)}.",
                "Make it return a number for every value on the supports, or narrow the supports.",
            ) from error

    def _checked(self, value: Any, latent: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
        try:
            out = np.asarray(value, float)
        except (TypeError, ValueError):
            out = np.full((0,), np.nan)
        if out.shape != shape:
            raise ModelError(
                f"The log density must be {'one number' if not shape else f'an array of shape {shape}'}, but it is "
                f"{type(value).__name__} of shape {np.shape(value)}.",
                f"{self._where()} Latents: {shown(latent)}.",
                "Sum over rows: return float(log_lik.sum() + log_prior.sum()).",
            )
        if not np.isfinite(out).all():
            at = int(np.flatnonzero(~np.isfinite(out.reshape(-1)))[0])
            worst = latent if not shape else {name: np.asarray(v)[at] for name, v in latent.items()}
            raise ModelError(
                f"The log density is {out.reshape(-1)[at]} there.",
                f"{self._where()} Latents: {shown(worst)}.",
                "Make it finite on the whole support: a support that leaves out impossible values, or a large negative "
                "number in their place.",
            )
        return out

    def _where(self) -> str:
        try:
            file = f"{inspect.getsourcefile(self.fn)}".rsplit("/", 1)[-1]
        except TypeError:
            file = "built-in"
        return f"In {self.__name__} ({file})."

    def check(self, points: Mapping[str, np.ndarray]) -> None:
        """Call it at a few points: it must answer, answer the same again, and may take them all at once."""
        first = self.evaluate(points)
        again = self.evaluate(points)
        if not np.array_equal(first, again):
            at = int(np.flatnonzero(first != again)[0])
            raise ModelError(
                f"The log density is not deterministic: it gave {float(first[at])!r} and then {float(again[at])!r}.",
                f"{self._where()} Latents: {shown({k: v[at] for k, v in points.items()})}.",
                "Fix the random numbers inside: draw them once outside and pass them as data.",
            )
        try:
            together = np.asarray(self.fn({k: v.copy() for k, v in points.items()}, **self.data), float)
        except Exception:
            return
        # The points all differ: a function that sums over draws or broadcasts them would give other values.
        self.batched = together.shape == first.shape and bool(np.allclose(together, first, rtol=1e-12, atol=1e-12))


def _words(value: Any, site: Site) -> Any:
    """A value as 32-bit words: integers one each, floats with a last axis of one or two."""
    if site.discrete:
        return jnp.asarray(value, jnp.int32)
    value = jnp.asarray(value, jnp.result_type(float))
    words = jax.lax.bitcast_convert_type(value, jnp.uint32)
    return words if words.ndim > value.ndim else words[..., None]


def _read(words: np.ndarray, kind: np.dtype, site: Site) -> np.ndarray:
    """The value behind its words."""
    return words if site.discrete else np.ascontiguousarray(words).view(kind)[..., 0]


def shown(latent: Mapping[str, Any]) -> str:
    """Latent values in a line, long arrays shortened."""

    def short(value: Any) -> str:
        return np.array2string(np.asarray(value), precision=4, threshold=6, edgeitems=2)

    return ", ".join(f"{name} = {short(value)}" for name, value in latent.items())


def check_points(structure: Structure, count: int = 3) -> dict[str, np.ndarray]:
    """A few different points on the supports."""
    from numpyro.distributions import biject_to

    rng = np.random.default_rng(0)
    points = {}
    for site in structure.latents:
        if site.discrete:
            low = int(np.min(getattr(site.support, "lower_bound", 0)))
            high = int(np.max(getattr(site.support, "upper_bound", low + (1 if site.support.is_discrete else 3))))
            points[site.name] = rng.integers(low, high + 1, size=(count, *site.shape))
        else:
            raw = 0.5 * rng.normal(size=(count, *site.unconstrained_shape))
            points[site.name] = np.asarray(jax.vmap(biject_to(site.support))(jnp.asarray(raw)))
    return points
