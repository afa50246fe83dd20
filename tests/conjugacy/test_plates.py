"""Streaming a plate gives the numbers of the plain sweep, and takes no memory that grows with rows times values."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from jensen._conjugate.algebra import build_conjugate, conjugate_target
from jensen._conjugate.algebra.plates import split
from jensen._conjugate.algebra.rows import Rows
from jensen._conjugate.cavi import CAVI
from jensen._conjugate.coordinate.ascent import Ascent
from jensen._conjugate.coordinate.plated import PlatedAscent, ascent_for
from jensen._conjugate.coordinate.plated_sweeps import chunk_size
from jensen._conjugate.coordinate.starts import random_start
from jensen._math.clock import programs_compiled

from .zoo import ZOO, padded

RNG = np.random.default_rng(5)
N = 4999  # a prime: the last chunk is shorter
CENTERS = np.array([[-3.0, 0.0], [3.0, 1.0], [0.0, 4.0]])
ROWS = CENTERS[RNG.integers(0, 3, N)] + RNG.normal(size=(N, 2))
DOC, WORD = RNG.integers(0, 5, N), RNG.integers(0, 7, N)
PPCA = RNG.normal(size=(N, 2)) @ RNG.normal(size=(2, 5)) + 0.3 * RNG.normal(size=(N, 5))
CASES = {
    "diagonal_mixture": ("row", {"x": ROWS, "K": 3}),
    "full_mixture": ("row", {"x": ROWS, "K": 3}),
    "stick_breaking": ("row", {"x": ROWS[:, 0], "K": 4}),
    "lda_tokens": ("token", {"doc": DOC, "word": WORD, "D": 5, "V": 7, "K": 3}),
    "ppca": ("row", {"x": PPCA, "M": 2}),
    "latent_classes": ("row", {"y": RNG.integers(0, 2, (N, 4)), "K": 2}),
    "lda_documents": ("document", {**padded(RNG.poisson(0.5, (N, 7)) + (np.arange(7) == 0)), "V": 7, "K": 3}),
    "two_discrete_sites": ("row", {"x": ROWS[:, 0]}),
}


SLOW = {"diagonal_mixture", "stick_breaking", "latent_classes", "lda_tokens", "two_discrete_sites"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in sorted(CASES)]
)
def test_streamed_sweep_is_the_plain_sweep(name):
    plate, data = CASES[name]
    model = build_conjugate(ZOO[name][0], data)
    streamed = ascent_for(model)
    assert isinstance(streamed, PlatedAscent)
    assert streamed.parts.plate == plate
    start = random_start(model, np.random.default_rng(2), seeds=False)
    plain = Ascent(model)
    plain.order = (*streamed.parts.transient, *streamed.parts.carried, *streamed.order)
    found, expected = streamed.begin(start), plain.begin(start)
    for _ in range(2):
        for block in streamed.order:
            for key, natural in expected.naturals[block].items():
                scale = np.abs(natural).max()
                np.testing.assert_allclose(found.naturals[block][key], natural, rtol=1e-10, atol=1e-10 * scale)
        assert found.elbo == pytest.approx(expected.elbo, rel=1e-11)
        found, expected = streamed.advance(found, 1), plain.advance(expected, 1)
    q = model.product({**found.naturals, **streamed.local_naturals(found.moments)})
    assert set(q.factors) == set(model.blocks)
    moments = {block: factor.mean_params() for block, factor in q.factors.items()}
    naturals = {block: factor.natural for block, factor in q.factors.items()}
    assert float(model.elbo(moments, naturals)) >= found.elbo


@pytest.mark.parametrize("name", ["diagonal_mixture", "full_mixture"])
def test_single_precision_far_from_the_origin(name):
    """Rows in float32, shifted by 100 sd: posterior means right to 1e-4 of that sd, precisions to 1e-3.

    The bound is off by a few roundings of its terms: what rows share is rounded once, to the same side for all of them,
    and which side that is differs from one processor to another.
    """

    def swept(precision):
        model = build_conjugate(ZOO[name][0], {"x": ROWS + 100.0, "K": 3}, row_precision=precision)
        ascent = ascent_for(model)
        state = ascent.given(np.random.default_rng(0), {"c": np.argmin(((ROWS[:, None] - CENTERS) ** 2).sum(-1), 1)})
        return ascent, ascent.advance(state, 20)

    double, (ascent, single) = swept("double")[1], swept("single")
    assert ascent.row_kind == np.float32
    assert ascent.check_rounding(single) < 1.0
    mean = {p: np.asarray(s.moments["mu"]["z"]) for p, s in (("double", double), ("single", single))}
    np.testing.assert_allclose(mean["single"], mean["double"], atol=1e-4, rtol=0)
    block, key = ("tau", "power") if name == "diagonal_mixture" else ("precision", "matrix")
    np.testing.assert_allclose(single.moments[block][key], double.moments[block][key], rtol=1e-3, atol=1e-3)
    assert single.elbo == pytest.approx(double.elbo, abs=float(4 * np.finfo(np.float32).eps * ascent.magnitude(single)))


def test_fit_of_many_rows_finds_the_components():
    fit = CAVI(tolerance=1e-6).fit_conjugate(ZOO["diagonal_mixture"][0], CASES["diagonal_mixture"][1])
    means = fit.means()["mu"]
    assert fit.converged
    assert np.all(np.diff(fit.history) > -1e-6)
    for center in CENTERS:
        assert np.linalg.norm(means - center, axis=-1).min() < 0.15
    assert fit.q.factor("c").natural["indicator"].shape == (N, 3)


def test_memory_does_not_grow_with_rows_times_values():
    """2e5 rows and 40 components: responsibilities alone would take 64 MB."""

    def mixture(x):
        with numpyro.plate("component", 40):
            mu = numpyro.sample("mu", dist.Normal(0, 3).expand([2]).to_event(1))
        with numpyro.plate("row", len(x)):
            c = numpyro.sample("c", dist.Categorical(jnp.ones(40) / 40))
            numpyro.sample("x", dist.Normal(mu[c], 1).to_event(1), obs=x)

    model = build_conjugate(mixture, {"x": RNG.normal(size=(200_000, 2))})
    ascent = ascent_for(model)
    moments = {"mu": random_start(model, np.random.default_rng(0), False, {"c": 1})["mu"]}
    lowered = jax.jit(ascent.sweeps._rows_program, static_argnums=(0, 1)).lower(200_000, 1, moments, {}, ascent.arrays)
    assert lowered.compile().memory_analysis().temp_size_in_bytes < 8e6


def test_products_of_one_array_are_packed():
    """x xᵀ of D = 2 has three distinct entries."""
    model = build_conjugate(ZOO["full_mixture"][0], CASES["full_mixture"][1])
    parts = split(model, "row")
    assert [group.pair.packed.size for group in parts.groups if group.pair is not None] == [3]
    assert sorted(Rows(parts).packs[0].widths) == [1, 2, 3]  # x xᵀ, x and 1 in one matrix


def test_a_second_fit_compiles_nothing():
    """Neither with other data of the same shapes, nor with other hyperparameters."""

    def mixture(x, scale):
        with numpyro.plate("component", 3):
            mu = numpyro.sample("mu", dist.Normal(0, scale).expand([2]).to_event(1))
        with numpyro.plate("row", len(x)):
            c = numpyro.sample("c", dist.Categorical(jnp.ones(3) / 3))
            numpyro.sample("x", dist.Normal(mu[c], 1).to_event(1), obs=x)

    CAVI(max_sweeps=3).fit_conjugate(mixture, {"x": ROWS, "scale": np.asarray(5.0)})
    before = programs_compiled()
    fit = CAVI(max_sweeps=3).fit_conjugate(mixture, {"x": ROWS[::-1] + 1.0, "scale": np.asarray(4.0)}, seed=3)
    assert programs_compiled() == before
    assert np.isfinite(fit.elbo)


def test_the_largest_of_the_local_blocks_is_made_anew():
    parts = split(build_conjugate(ZOO["lda_documents"][0], CASES["lda_documents"][1]), "document")
    assert (parts.transient, parts.carried, parts.shared) == (("z",), ("theta",), ("phi",))


def test_documents_that_start_cold_reach_the_plain_bound():
    """Topics well apart, so that every start ends at the same place: within 0.01 nats per document after 60 sweeps."""
    counts = RNG.multinomial(40, np.where(np.arange(600)[:, None] % 2, [9, 9, 1, 1], [1, 1, 9, 9]) / 20)
    data = {**padded(counts), "V": 4, "K": 2}
    model = build_conjugate(ZOO["lda_documents"][0], data)
    phi = {"phi": [[0.4, 0.4, 0.1, 0.1], [0.1, 0.1, 0.4, 0.4]]}
    state = PlatedAscent(split(model, "document")).given(np.random.default_rng(0), phi)
    state = PlatedAscent(split(model, "document")).advance(state, 60)
    plain = CAVI(escape=False).fit_conjugate(ZOO["lda_documents"][0], data, init=phi)
    assert state.elbo == pytest.approx(plain.elbo, abs=0.01 * 600)
    assert np.all(np.diff(state.history) > -1e-8)


@pytest.mark.parametrize("rows", [10, 1024, 4096, 100_000, 4999, 1_000_000])
def test_chunks_divide_the_rows_where_they_can(rows):
    size = chunk_size(rows)
    assert 1 <= size <= rows
    if rows in (1024, 4096, 100_000, 1_000_000):
        assert rows % size == 0


def test_rows_without_global_latents():
    def model(y):
        with numpyro.plate("row", len(y)):
            level = numpyro.sample("level", dist.Normal(0, 1))
            numpyro.sample("y", dist.Normal(level, 1), obs=y)

    y = ROWS[:, 0]
    fit = CAVI().fit_conjugate(model, {"y": y})
    np.testing.assert_allclose(fit.means()["level"], y / 2)
    assert fit.elbo == pytest.approx(np.sum(-(y**2) / 4) - 0.5 * N * np.log(4 * np.pi))


def test_given_values_of_local_latents_are_kept_for_the_start():
    data = CASES["stick_breaking"][1]
    labels = (data["x"] > 0).astype(int)
    fit = CAVI(max_sweeps=3, escape=False).fit_conjugate(ZOO["stick_breaking"][0], data, init={"c": labels})
    assert np.isfinite(fit.elbo)


@pytest.mark.slow
def test_a_saddle_of_streamed_rows_is_left():
    """All classes alike, and every global a beta or a Dirichlet, which know no push of their own."""
    rng = np.random.default_rng(4)
    y = (rng.random((4200, 4)) < np.where(np.arange(4200)[:, None] % 2, 0.2, 0.8)) * 1
    target = conjugate_target(ZOO["latent_classes"][0], {"y": y, "K": 2})
    ascent = ascent_for(target.model)
    assert isinstance(ascent, PlatedAscent)
    even = {"c": {"indicator": np.full((4200, 2), 0.5)}}
    start = {**random_start(target.model, rng, False), **even}
    start["p"] = {k: np.broadcast_to(np.asarray(v)[:1], v.shape) for k, v in start["p"].items()}
    start["weights"] = {"log": np.full(2, np.log(0.5))}
    state = ascent.advance(ascent.begin({n: start[n] for n in ascent.order}), 20)
    assert state.history[-1] - state.history[-2] < 1e-3
    moved = CAVI()._above(ascent, state, rng)
    assert moved is not None
    assert moved.elbo > state.elbo + 100.0
