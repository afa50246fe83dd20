"""Stochastic variational inference against coordinate ascent, enumeration of minibatches, and data from outside."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers

from jensen._base.errors import DataError, ModelError, OptionError
from jensen._conjugate.algebra import build_conjugate
from jensen._conjugate.algebra.plates import split
from jensen._conjugate.cavi import CAVI
from jensen._conjugate.coordinate import batch_starts
from jensen._conjugate.coordinate.minibatch import Minibatches
from jensen._conjugate.coordinate.plated import PlatedAscent
from jensen._conjugate.coordinate.starts import random_start
from jensen._conjugate.svi import SVI
from jensen._data.sources import Batches, Piece, Ragged, Rows
from jensen._math.precision import working

from .test_plates import CASES, CENTERS
from .zoo import ZOO

RNG = np.random.default_rng(3)
SIX = {**ZOO["unit_mixture"][1], "x": ZOO["unit_mixture"][1]["x"][:6]}
MIXTURE = ZOO["unit_mixture"][0]


@pytest.fixture(scope="module")
def small():
    """Six rows of the unit-variance mixture, and a state after one sweep."""
    with working("double"):
        model = build_conjugate(MIXTURE, SIX)
        ascent = PlatedAscent(split(model, "row"))
        return ascent, ascent.begin(random_start(model, np.random.default_rng(4), False))


def stepped(state, pieces, rate, fn=MIXTURE, size=6, tolerance=1e-4):
    """The natural parameters after a step from these pieces, and the minibatches."""
    batches = Minibatches(fn, "double", tolerance, None)
    batches.first(pieces[0])
    return batches.update(state.moments, state.naturals, batches.gather(state.moments, pieces, size), rate)


def test_full_batch_and_unit_rate_is_one_sweep(small):
    ascent, state = small
    swept = ascent.advance(state, 1)
    _, naturals, before, _, inside = stepped(state, (Piece(SIX),), 1.0)
    assert np.all(inside)
    assert float(before) >= state.elbo
    for found, expected in zip(jax.tree.leaves(naturals), jax.tree.leaves(swept.naturals), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_mean_over_all_minibatches_is_the_full_natural_gradient(small):
    """All 15 pairs of six rows: the steps average to the full one, as only one global block moves."""
    _, state = small
    batches = Minibatches(MIXTURE, "double", 1e-4, None)
    batches.first(Piece({**SIX, "x": SIX["x"][:2]}))
    steps = []
    for pair in itertools.combinations(range(6), 2):
        sums = batches.gather(state.moments, (Piece({**SIX, "x": SIX["x"][list(pair)]}),), 6)
        steps.append(batches.update(state.moments, state.naturals, sums, 0.3)[1]["mu"])
    full = stepped(state, (Piece(SIX),), 0.3)[1]["mu"]
    for key in full:
        np.testing.assert_allclose(np.mean([s[key] for s in steps], 0), full[key], rtol=1e-12)


def test_pieces_and_weights_add_up(small):
    """Two pieces of different size, the second with a row of no weight, are the six rows."""
    _, state = small
    second = np.append(SIX["x"][4:], 7.0)
    pieces = (Piece({**SIX, "x": SIX["x"][:4]}, 1.0), Piece({**SIX, "x": second}, np.array([1.0, 1.0, 0.0])))
    whole, parts = stepped(state, (Piece(SIX),), 1.0), stepped(state, pieces, 1.0)
    assert float(parts[2]) == pytest.approx(float(whole[2]), rel=1e-12)
    for found, expected in zip(jax.tree.leaves(parts[1]), jax.tree.leaves(whole[1]), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ppca", "diagonal_mixture"])
def test_cold_start_comes_within_a_milli_nat_per_row(name):
    data = CASES[name][1]
    batch = CAVI(tolerance=1e-7).fit_conjugate(ZOO[name][0], data)
    fit = SVI(batch_size=250).fit_conjugate(ZOO[name][0], data, seed=1)
    assert fit.converged
    assert "per row are still to come" in fit.status
    assert abs(fit.elbo - batch.elbo) < 1e-3 * 4999
    moments = {block: factor.mean_params() for block, factor in fit.q.factors.items()}
    exact = float(fit.model.elbo(moments, {block: factor.natural for block, factor in fit.q.factors.items()}))
    assert exact == pytest.approx(fit.elbo, rel=1e-10)
    if name == "diagonal_mixture":
        for center in CENTERS:
            assert np.linalg.norm(fit.means()["mu"] - center, axis=-1).min() < 0.2


def test_stopped_early_is_not_converged():
    fit = SVI(batch_size=3, max_epochs=2, tolerance=1e-14).fit_conjugate(MIXTURE, SIX)
    assert not fit.converged
    assert "max_epochs" in fit.status


OTHER = np.random.default_rng(4)
CLASSES = OTHER.permutation((OTHER.random((300, 4)) < np.where(np.arange(300)[:, None] < 150, 0.2, 0.8)) * 1)


def test_a_symmetric_saddle_of_betas_is_left(monkeypatch):
    """All classes alike: a stationary point that neither steps nor sweeps leave by themselves."""
    start = batch_starts._start
    monkeypatch.setattr(batch_starts, "_start", lambda *a: start(*a[:4], False, 0.0))
    fit = SVI(batch_size=100, moves=False).fit_conjugate(ZOO["latent_classes"][0], {"y": CLASSES, "K": 2}, seed=1)
    assert fit.saddle
    assert fit.converged
    np.testing.assert_allclose(np.sort(fit.means()["p"].mean(1)), [0.2, 0.8], atol=0.05)


def test_same_seed_same_bits():
    first, second = (SVI(batch_size=3, max_epochs=2).fit_conjugate(MIXTURE, SIX, seed=1) for _ in range(2))
    np.testing.assert_array_equal(first.history, second.history)
    assert first.means()["mu"].tobytes() == second.means()["mu"].tobytes()


def documents(word, count, K, V):
    rows, length = word.shape
    with numpyro.plate("topic", K):
        phi = numpyro.sample("phi", dist.Dirichlet(jnp.full(V, 0.5)))
    with numpyro.plate("document", rows, dim=-2):
        theta = numpyro.sample("theta", dist.Dirichlet(jnp.full(K, 0.7)))
        with numpyro.plate("entry", length, dim=-1), handlers.scale(scale=count):
            z = numpyro.sample("z", dist.Categorical(theta))
            numpyro.sample("w", dist.Categorical(phi[z]), obs=word)


LENGTHS = RNG.integers(2, 9, 40)
ROW = np.repeat(np.arange(40), LENGTHS)
ENTRIES = {"word": RNG.integers(0, 6, LENGTHS.sum()) // (1 + ROW % 2), "count": RNG.integers(1, 4, LENGTHS.sum())}


def whole(lengths):
    """(bound at fixed topics, statistics of all documents, the minibatches) with so many lengths to pad to."""
    source = Ragged(ENTRIES, ROW, 20, shared={"K": 3, "V": 6}, lengths=lengths)
    batches = Minibatches(documents, "double", 1e-13, None, iterations=3000)
    program = batches.first(source.example())
    moments = {"phi": random_start(program.model, np.random.default_rng(0), False)["phi"]}
    naturals = {"phi": program.model.blocks["phi"].zeros()}
    _, after, bound, _, _ = batches.update(moments, naturals, batches.whole(moments, source.whole()), 1.0)
    return moments, after["phi"]["log"], float(bound), batches, source


@pytest.mark.slow
def test_several_local_blocks_reach_their_joint_optimum():
    """Documents: topic shares and topics of words, for fixed topics. The bound is that of plain updates, and does not
    depend on the lengths that the documents are padded to."""
    moments, statistics, bound, batches, source = whole(1)
    _, others, other_bound, _, _ = whole(2)
    np.testing.assert_allclose(statistics, others, atol=1e-3)
    assert other_bound == pytest.approx(bound, abs=1e-8)
    assert set(batches.rest.parts.local) == {"theta", "z"}
    model = build_conjugate(documents, Ragged(ENTRIES, ROW, 40, shared=source.shared, lengths=1).example().arguments)
    start = {**random_start(model, np.random.default_rng(1), False), **moments}

    def round_of(_, moments):
        for name in ("z", "theta"):
            moments = {**moments, name: model.factor(name, model.message(name, moments)).mean_params()}
        return moments

    @jax.jit
    def plain(moments):
        moments = jax.lax.fori_loop(0, 3000, round_of, moments)
        naturals = {name: model.message(name, moments) for name in ("z", "theta")}
        return model.elbo(moments, {**naturals, "phi": model.blocks["phi"].zeros()})

    assert float(plain(start)) == pytest.approx(bound, abs=1e-6)


@pytest.mark.slow
def test_topics_from_ragged_documents():
    """The fit from batches of two lengths is a fixed point of coordinate ascent on all documents."""
    source = Ragged(ENTRIES, ROW, 20, shared={"K": 3, "V": 6}, lengths=2)
    fit = SVI().fit_conjugate(documents, source)
    padded = Ragged(ENTRIES, ROW, 40, shared={"K": 3, "V": 6}, lengths=1).example().arguments
    batch = CAVI(restarts=1, max_sweeps=300).fit_conjugate(documents, padded, init={"phi": fit.means()["phi"]})
    assert fit.converged
    assert set(fit.q.factors) == {"phi"}
    assert fit.elbo > batch.elbo - 1e-3 * LENGTHS.sum()


def test_mapped_arrays_and_batches_give_what_arrays_give(tmp_path):
    x = RNG.normal(size=60) + np.repeat([-2.0, 2.0], 30)
    mapped = np.memmap(tmp_path / "x", dtype=float, mode="w+", shape=60)
    mapped[:] = x
    method = SVI(batch_size=20, max_epochs=6)
    plain = method.fit_conjugate(MIXTURE, {"x": x, "K": 2})
    from_disk = method.fit_conjugate(MIXTURE, {"x": mapped, "K": 2})
    assert from_disk.elbo == pytest.approx(plain.elbo, rel=1e-12)
    order = RNG.permutation(60)

    def read():
        return ({"x": x[order[i : i + 20]]} for i in range(0, 60, 20))

    streamed = method.fit_conjugate(MIXTURE, Batches(read, shared={"K": 2}))
    assert streamed.converged
    assert streamed.elbo == pytest.approx(plain.elbo, abs=1e-3 * 60)
    once = method.fit_conjugate(MIXTURE, Batches(read(), size=60, shared={"K": 2}))
    assert not once.converged
    assert "read once" in once.status
    assert set(once.q.factors) == {"mu"}


def test_arrays_are_read_in_batches_only():
    """Every row exactly once in a sweep, and the rest filled up with rows of no weight."""
    source = Rows({"x": np.arange(7.0), "K": 2}, 7, 3)
    seen = [(p.arguments["x"], p.weights) for (p,) in source.whole()]
    np.testing.assert_array_equal(np.concatenate([x[w > 0] for x, w in seen]), np.arange(7.0))
    assert all(len(x) == 3 for x, _ in seen)
    assert len(list(source.epoch(np.random.default_rng(0)))) == 2


def test_batch_larger_than_the_plate_is_refused():
    with pytest.raises(OptionError, match="8 rows"):
        SVI(batch_size=9).fit_conjugate(*ZOO["unit_mixture"])


def grouped(X, g, y):
    """A regression with a mean for every group: no row has latents of its own."""
    tau = numpyro.sample("tau", dist.Gamma(1.0, 1.0))
    with numpyro.plate("column", X.shape[1]):
        w = numpyro.sample("w", dist.Normal(0.0, 1.0))
    with numpyro.plate("group", 3):
        mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Normal(mu[g] + X @ w, 1 / jnp.sqrt(tau)), obs=y)


def test_rows_without_latents_are_read_in_batches(tmp_path):
    rng = np.random.default_rng(8)
    data = {"X": rng.normal(size=(70, 2)), "g": rng.integers(3, size=70), "y": rng.normal(size=70)}
    exact = CAVI(tolerance=1e-12).fit_conjugate(grouped, data)
    method = SVI(batch_size=20, tolerance=1e-9)

    def read():
        return ({k: v[i : i + 14] for k, v in data.items()} for i in range(0, 70, 14))

    mapped = {}
    for name, value in data.items():
        mapped[name] = np.memmap(tmp_path / name, dtype=value.dtype, mode="w+", shape=value.shape)
        mapped[name][:] = value
    for rows in (data, mapped, Batches(read)):
        fit = method.fit_conjugate(grouped, rows)
        assert fit.converged
        assert fit.elbo == pytest.approx(exact.elbo, abs=1e-6)
        for site, mean in exact.means().items():
            np.testing.assert_allclose(fit.means()[site], mean, atol=1e-4)


def test_rows_without_latents_are_read_once_for_all_sweeps():
    rng = np.random.default_rng(8)
    data = {"X": rng.normal(size=(70, 2)), "g": rng.integers(3, size=70), "y": rng.normal(size=70)}
    with working("double"):
        source = Rows(data, 70, 20)
        batches = Minibatches(grouped, "double", 1e-4, "row", size=70)
        batches.first(source.example())
        points = [
            {n: random_start(batches.model, np.random.default_rng(s), False)[n] for n in ["w", "mu", "tau"]}
            for s in (0, 1)
        ]
        first = batches.whole(points[0], source.whole())
        again = batches.whole(points[1], ())  # nothing is read
        fresh = Minibatches(grouped, "double", 1e-4, "row", size=70)
        fresh.first(source.example())
        expected = fresh.whole(points[1], source.whole())
        assert float(first.bound) != pytest.approx(float(expected.bound))
        assert float(again.bound) == pytest.approx(float(expected.bound), rel=1e-12)


def test_rows_that_follow_each_other_are_refused():
    def walk(x):
        tau = numpyro.sample("tau", dist.Gamma(1.0, 1.0))
        with numpyro.plate("row", len(x)):
            before = jnp.concatenate([jnp.zeros(1), x[:-1]])
            numpyro.sample("x", dist.Normal(before, 1 / jnp.sqrt(tau)), obs=x)

    with pytest.raises(ModelError, match="sum over the rows"):
        SVI(batch_size=4).fit_conjugate(walk, {"x": RNG.normal(size=12)})


def test_model_without_rows_is_refused():
    def single(x):
        numpyro.sample("x", dist.Normal(numpyro.sample("mu", dist.Normal(0.0, 1.0)), 1.0), obs=x)

    with pytest.raises(ModelError, match="cavi"):
        SVI().fit_conjugate(single, {"x": 1.0})


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"forgetting": 0.5}, {"delay": -1.0}, {"tolerance": 0.0}])
def test_options_out_of_range(options):
    with pytest.raises(OptionError):
        SVI(**options)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "not a single batch"),
        ([np.ones(3)], "not a mapping"),
        ([{"x": np.ones(4)}, {"x": np.array([1.0, np.inf, 2.0, 0.0])}], "infinite"),
        ([{"x": np.ones(4)}, {"x": np.ones(4), "K": 3}], "shapes"),
        ([{"x": np.ones(4)}, {"x": np.ones(4), "y": np.ones(4)}], "'y'"),
    ],
)
def test_wrong_batches_are_named(batches, message):
    with pytest.raises(DataError, match=message):
        SVI().fit_conjugate(MIXTURE, Batches(batches, shared={"K": 2}))


def test_an_iterator_cannot_be_counted():
    with pytest.raises(DataError, match="size="):
        Batches(iter([{"x": np.ones(4)}]))
    with pytest.raises(DataError, match="first batch alone"):
        SVI().fit_conjugate(MIXTURE, Batches([{"x": np.ones(4)}], size=3, shared={"K": 2}))
