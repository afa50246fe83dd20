"""Examples: a program, data of which something may be wrong, a method with options, and calls on the fit."""

import contextlib
import datetime
import tempfile
import warnings
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
from hypothesis import strategies as st

import jensen as jn
from tests.fuzz.models import FITTED, LOG_DENSITY, X, line, normal

ODD = [0, -1, 2.5, float("nan"), float("inf"), "two", None, True, 10**12, (), np.int64(3), np.array([1])]


def one(value, at=0):
    """An array with one value changed."""

    def change(array):
        array = np.array(array, float if isinstance(value, float) else None)
        array[at] = value
        return array

    return change


CHANGES = {
    "empty": lambda a: a[:0],
    "scalar": lambda a: a[0],
    "one row": lambda a: a[:1],
    "a row fewer": lambda a: a[:-1],
    "an axis more": lambda a: np.stack([a, a], 1),
    "a column": lambda a: a[:, None],
    "NaN": one(np.nan),
    "all NaN": lambda a: np.full(len(a), np.nan),
    "infinite": one(np.inf, 1),
    "minus one": one(-1),
    "seven": one(7),
    "huge": one(1e300),
    "tiny": one(1e-310),
    "constant": lambda a: np.zeros(len(a)),
    "huge whole numbers": lambda a: np.array([2**70] * len(a), object),
    "float16": lambda a: a.astype(np.float16),
    "float32": lambda a: a.astype(np.float32),
    "floats": lambda a: a.astype(float),
    "int8": lambda a: a.astype(np.int8),
    "uint8": lambda a: np.abs(a).astype(np.uint8),
    "uint64": lambda a: np.abs(a).astype(np.uint64),
    "bool": lambda a: a > 0,
    "object": lambda a: a.astype(object),
    "None in it": lambda a: np.array([None, *a[1:]], object),
    "text": lambda a: a.astype(str),
    "bytes": lambda a: a.astype("S"),
    "complex": lambda a: a + 1j,
    "dates": lambda a: np.array(["2020-01-01"] * len(a), "M8[D]"),
    "structured": lambda a: np.array([(1, 2.0)] * len(a), [("a", int), ("b", float)]),
    "masked": lambda a: np.ma.masked_array(a, np.arange(len(a)) == 2),
    "nothing masked": np.ma.masked_array,
    "JAX": jnp.asarray,
    "Series": lambda a: pd.Series(a, index=range(10, 10 + len(a))),
    "nullable": lambda a: pd.array([None, *a[1:].astype(int)], "Int64"),
    "categories": lambda a: pd.Categorical(a),
    "DataFrame": lambda a: pd.DataFrame({"a": a}),
    "list": lambda a: a.tolist(),
    "tuple": tuple,
    "ragged": lambda a: [[1.0], [1.0, 2.0]],
    "set": lambda a: set(a.tolist()),
    "generator": lambda a: (v for v in a),
    "nothing": lambda a: None,
    "a word": lambda a: "y",
    "a mapping": lambda a: {"inner": a},
    "a function": lambda a: len,
    "a date": lambda a: datetime.date(2020, 1, 1),
    "read-only": lambda a: np.broadcast_to(a[0], a.shape),
    "strided": lambda a: np.repeat(a, 2)[::2],
    "reversed bytes": lambda a: a.astype(a.dtype.newbyteorder()),
    "memory order": lambda a: np.asfortranarray(np.stack([a, a], 1)),
}
WHOLE = {
    "a key more": lambda d: {**d, "spare": X},
    "a key fewer": lambda d: dict(list(d.items())[1:]),
    "no data": lambda d: None,
    "a list": lambda d: list(d.values()),
    "an array": lambda d: X,
    "a table": lambda d: pd.DataFrame(dict(d)),
    "other keys": lambda d: {i: v for i, v in enumerate(d.values())},
    "batches": lambda d: jn.Batches([d]),
    "one-shot batches": lambda d: jn.Batches(iter([d]), size=6),
}
CHEAP = ("laplace", "laplace", "laplace", "cavi", "pathfinder")
DEAR = ("auto", "advi", "svi", "bbvi", "naive")
WRONG = ("nuts", "", None, 3, jn, jn.advi, normal)
OPTIONS = {
    "laplace": ("num_starts",),
    "advi": ("family", "num_starts", "engine", "bound", "spare"),
    "cavi": ("blocks", "num_starts", "max_sweeps"),
    "pathfinder": ("num_starts", "num_draws"),
    "svi": ("batch_size", "plate", "max_epochs"),
    "auto": ("num_starts", "max_dim"),
}
CALLS = {
    "check": lambda f, odd: f.check(),
    "summary": lambda f, odd: f.summary(),
    "summary of a site": lambda f, odd: f.summary(odd),
    "sample": lambda f, odd: f.sample(7),
    "sample odd": lambda f, odd: f.sample(odd),
    "sample seed": lambda f, odd: f.sample(3, seed=odd),
    "evidence": lambda f, odd: f.evidence(),
    "decompose": lambda f, odd: f.decompose(num_draws=odd),
    "predict": lambda f, odd: f.predict(num_draws=3),
    "predict odd": lambda f, odd: f.predict(num_draws=odd),
    "predict new": lambda f, odd: f.predict({"x": X}, num_draws=2),
    "predict more": lambda f, odd: f.predict({"x": np.concatenate([X, X])}, num_draws=2),
    "predict anew": lambda f, odd: f.predict(num_draws=2, new=odd),
    "predict what": lambda f, odd: f.predict(odd),
    "infer": lambda f, odd: f.infer(odd),
    "marginals": lambda f, odd: f.marginals(odd),
    "to_arviz": lambda f, odd: f.to_arviz(5),
    "compare": lambda f, odd: jn.compare({"a": f, "b": odd}),
    "surgery": lambda f, odd: f.surgery(),
    "q": lambda f, odd: (f.q, f.approximation, repr(f), f.cost),
    "files": lambda f, odd: _through_a_file(f),
    "attach": lambda f, odd: f.attach(normal, {"y": X}),
}


def _through_a_file(fit: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fit.jn"
        fit.save(path)
        again = jn.load(path)
        assert again.summary().equals(fit.summary())
        assert str(again.check()) == str(fit.check())


@st.composite
def examples(draw, dear: float = 0.02):
    """(program, data, changes in words, method, its options, keywords of the fit, calls)."""
    pick = lambda values: draw(st.sampled_from(list(values)))  # noqa: E731
    program = pick(FITTED)
    faults = [pick(CHANGES) for _ in range(draw(st.integers(0, 2)))]
    keys = [pick(FITTED[program]) for _ in faults]
    whole = pick(WHOLE) if draw(st.integers(0, 9)) == 0 else None
    rare = draw(st.integers(0, 99))
    method = pick(DEAR) if rare < 100 * dear else pick(WRONG) if rare > 92 else pick(CHEAP)
    options = {}
    if method in OPTIONS and draw(st.integers(0, 5)) == 0:
        options = {pick(OPTIONS[method]): pick(ODD)}
    keywords = {}
    if draw(st.integers(0, 9)) == 0:
        keywords = {pick(("seed", "precision", "learn", "progress")): pick(ODD)}
    swapped = draw(st.integers(0, 59)) == 0
    calls = [(pick(CALLS), pick(ODD)) for _ in range(draw(st.integers(0, 2)))]
    return program, list(zip(keys, faults, strict=True)), whole, method, options, keywords, swapped, calls


def run(example: Any) -> str:
    """ "fit" or "refused"; whatever else comes of it, a warning included, is raised."""
    program, faults, whole, method, options, keywords, swapped, calls = example
    data: Any = dict(FITTED[program])
    with np.errstate(all="ignore"):
        for key, fault in faults:
            if isinstance(data[key], np.ndarray) and data[key].dtype.kind in "iuf" and data[key].ndim == 1:
                with contextlib.suppress(TypeError, ValueError, OverflowError, NotImplementedError):
                    # two of them need not go together
                    data[key] = CHANGES[fault](data[key]) if data[key].size > 2 else data[key]
        if whole:
            with contextlib.suppress(TypeError, ValueError):  # there may be no such table
                data = WHOLE[whole](data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", jn.UntrustedWarning)  # the one that is meant
        try:
            chosen = getattr(jn, method)(**options) if options else method
            pair = (data, program) if swapped else (program, data)
            fit = jn.fit(*pair, chosen, **{"progress": False, **keywords})
        except jn.JensenError:
            return "refused"
        assert isinstance(fit, jn.Fit)
        for call, odd in calls:
            try:
                CALLS[call](fit, odd)
            except jn.JensenError:
                continue
    return "fit"


__all__ = ["LOG_DENSITY", "examples", "line", "run"]
