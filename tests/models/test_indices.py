"""Indices that come from the data: outside their axis they are refused by key and row, whatever way they take."""

import re
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.control_flow import scan

import jensen as jn
from jensen._data.data_check import convert
from jensen._program.indices import check_indices, checked, program

N, J = 12, 5
G = np.arange(N) % J
BEYOND, NEGATIVE = G + 1, np.where(np.arange(N) == 7, -1, G)
Y = np.linspace(-1.0, 1.0, N)
LAST = np.array([0, -1])

WAYS = {
    "m[g]": lambda m, g: m[g],
    "take": jnp.take,
    "take_along_axis": lambda m, g: jnp.take_along_axis(m, g, 0),
    "two axes": lambda m, g: jnp.stack([m, m], 1)[g, jnp.zeros(N, int)],
    "second axis": lambda m, g: jnp.stack([m, m])[:, g][0],
    "beside a latent": lambda m, g: jnp.stack([m, m])[jnp.where(m[0] > 0, 0, 1), g],
    "arithmetic": lambda m, g: m[2 * g - g],
    "astype": lambda m, g: m[(1.0 * g).astype(jnp.int8)],
    "permuted": lambda m, g: m[g[np.arange(N)[::-1]]],
    "concatenated": lambda m, g: m[jnp.concatenate([g[:5], g[5:]])],
    "reshaped": lambda m, g: m[g.reshape(3, 4)].reshape(-1),
    "broadcast": lambda m, g: m[jnp.broadcast_to(g, (2, N))][0],
    "vmap": lambda m, g: jax.vmap(lambda i: m[i])(g),
    "jit": lambda m, g: jax.jit(lambda m, g: m[g])(m, g),
    "remat": lambda m, g: jax.checkpoint(lambda m, g: m[g])(m, g),
    "cond": lambda m, g: jax.lax.cond(m[0] > 0, lambda: m[g], lambda: -m[g]),
    "scan": lambda m, g: jax.lax.scan(lambda c, i: (c, m[i]), 0.0, g)[1],
    "scan over a counter": lambda m, g: jax.lax.scan(lambda t, _: (t + 1, m[g[t]]), 0, None, N)[1],
    "reversed scan": lambda m, g: jax.lax.scan(lambda c, i: (c, m[i]), 0.0, g, reverse=True)[1],
    "scan with a known carry": lambda m, g: jax.lax.scan(lambda c, i: (i, m[c]), g[-1], g)[1],
    "fori_loop": lambda m, g: jax.lax.fori_loop(0, N, lambda i, a: a.at[i].set(m[g[i]]), jnp.zeros(N)),
    "while_loop": lambda m, g: jax.lax.while_loop(
        lambda c: c[0] < N, lambda c: (c[0] + 1, c[1].at[c[0]].set(m[g[c[0]]])), (0, jnp.zeros(N))
    )[1],
    "map": lambda m, g: jax.lax.map(lambda i: m[i], g),
    "dynamic_slice": lambda m, g: jax.vmap(lambda i: jax.lax.dynamic_slice(m, (i,), (1,))[0])(g),
    "scatter-add": lambda m, g: jnp.zeros(J).at[g].add(1.0) @ m,
    "segment_sum": lambda m, g: jax.ops.segment_sum(jnp.ones(N), g, J) @ m,
    "switch": lambda m, g: jax.vmap(lambda i: jax.lax.switch(i, [lambda k=k: m[k] for k in range(J)]))(g),
    "switch in a scan": lambda m, g: jax.lax.scan(
        lambda c, i: (c, jax.lax.switch(i, [lambda k=k: m[k] for k in range(J)])), 0.0, g
    )[1],
    "select_n": lambda m, g: jax.lax.select_n(g.astype(jnp.int32), *(jnp.full(N, m[k]) for k in range(J))),
    "beside constants": lambda m, g: m[g] + m[-1] + m[LAST].sum(),
}
LEGAL = {
    "where": lambda m, g: m[jnp.where((g < 0) | (g >= J), 0, g)],
    "clip": lambda m, g: m[jnp.clip(g, 0, J - 1)],
    "take in clip mode": lambda m, g: jnp.take(m, g, mode="clip"),
    "take in wrap mode": lambda m, g: jnp.take(m, g, mode="wrap"),
    "counted from the end by the user": lambda m, g: m[jnp.where(g < 0, g + J, g) % J],
    "left out by where": lambda m, g: jnp.where((g >= 0) & (g < J), m[g], 0.0),
    "left out by a factor": lambda m, g: ((g >= 0) & (g < J)) * m[g],
    "switch behind clip": lambda m, g: jax.vmap(
        lambda i: jax.lax.switch(jnp.clip(i, 0, 1), [lambda: m[0], lambda: m[1]])
    )(g),
    "cond of a number": lambda m, g: jax.vmap(lambda i: jax.lax.cond(i, lambda: m[0], lambda: m[1]))(g),
    "one_hot of what is meant": lambda m, g: ((g >= 0) & (g < J))[:, None] * jax.nn.one_hot(g, J) @ m,
    "a comparison": lambda m, g: (g[:, None] == jnp.arange(J)) @ m,
    "an entry of their own": lambda m, g: jnp.concatenate([jnp.zeros(1), m, jnp.zeros(1)])[g + 1],
}


def model_of(way):
    def model(g, y):
        with numpyro.plate("group", J):
            m = numpyro.sample("m", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(way(m, g), 1), obs=y)

    return model


def check(model, **data):
    check_indices(model, convert(data, "double"), "double")


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_an_index_is_followed_back_to_the_row(way):
    model = model_of(WAYS[way])
    check(model, g=G, y=Y)
    with pytest.raises(jn.DataError) as beyond:
        check(model, g=BEYOND, y=Y)
    branch = "switch" in way or way == "select_n"
    for word in ("'g'", "0..4", "is 5", "Number the branches 0..4" if branch else "subtract 1"):
        assert word in str(beyond.value)
    first = 9 if way in ("permuted", "reversed scan") else 4
    assert f"row {first}" in str(beyond.value) or way == "scan with a known carry"
    with pytest.raises(jn.DataError) as negative:
        check(model, g=NEGATIVE, y=Y)
    for word in ("'g'", "0..4", "is -1", "Number the branches 0..4" if branch else "missing category"):
        assert word in str(negative.value)
    assert "row 7" in str(negative.value) or way == "scan with a known carry"


@pytest.mark.parametrize("way", LEGAL)
def test_what_the_program_itself_brings_into_range_is_legal(way):
    check(model_of(LEGAL[way]), g=NEGATIVE, y=Y)
    check(model_of(LEGAL[way]), g=BEYOND, y=Y)


def test_one_hot_refuses_codes_of_missing_and_numbers_from_one():
    encoded, shifted = (model_of(lambda m, g, k=k: jax.nn.one_hot(g - k, J) @ m) for k in (0, 1))
    for model in (encoded, model_of(lambda m, g: jax.vmap(lambda i: jax.nn.one_hot(i, J) @ m)(g))):
        check(model, g=G, y=Y)
        for data, word in ((NEGATIVE, "is -1"), (G + 1, "subtract 1"), (np.where(G == 2, 99, G), "is 99")):
            with pytest.raises(jn.DataError, match=word) as error:
                check(model, g=data, y=Y)
            assert "row of zeros" in str(error.value)
            assert "'g', first at row " in str(error.value)
    check(encoded, g=np.arange(N) % (J + 1), y=Y)  # the last category is the one that others are compared with
    check(shifted, g=np.arange(N) % (J + 1), y=Y)  # the first is
    with pytest.raises(jn.DataError, match="row of zeros"):
        check(shifted, g=NEGATIVE, y=Y)


def states_of(way, size, factor=lambda z, b: 0.0):
    def model(y):
        z = numpyro.sample("z", dist.Categorical(jnp.array([0.2, 0.3, 0.5])))
        b = numpyro.sample("b", dist.Bernoulli(0.5))
        m = numpyro.sample("m", dist.Normal(0, 1).expand([size]).to_event(1))
        numpyro.factor("some", factor(z, b))
        numpyro.sample("y", dist.Normal(way(m, z, b), 1), obs=y)

    return model


STATES = {
    "beyond": (lambda m, z, b: m[z + 1], 3, "entry 3 of an axis that has 3, 0..2, where z = 2"),
    "between the ends": (lambda m, z, b: m[2 * z * (2 - z)], 2, "entry 2 of an axis that has 2, 0..1, where z = 1"),
    "of two": (lambda m, z, b: m[2 * b + z], 4, "entry 4 of an axis that has 4, 0..3, where z = 2, b = 1"),
    "in a plate": (lambda m, z, b: m[jnp.full(4, z)].sum(), 2, "entry 2 of an axis that has 2"),
    "under vmap": (lambda m, z, b: jax.vmap(lambda k: m[k])(jnp.stack([z, b])).sum(), 2, "where z = 2"),
    "a slice": (lambda m, z, b: jax.lax.dynamic_slice(m, (z,), (2,)).sum(), 3, "entry 2 of an axis that has 2"),
}


@pytest.mark.parametrize("way", STATES)
def test_an_index_made_of_a_discrete_latent_fits_its_axis_at_every_state(way):
    fn, size, words = STATES[way]
    with pytest.raises(jn.ModelError, match=re.escape(words)):
        check(states_of(fn, size), y=0.3)
    check(states_of(fn, size + 1), y=0.3)


OF_BOTH = {
    "in the index": lambda m, z, k: m[z + k],
    "in a branch": lambda m, z, k: jax.lax.cond(k > 0, lambda: m[z + 1], lambda: m[z]),
    "in a loop": lambda m, z, k: jax.lax.while_loop(
        lambda c: c[0] <= k, lambda c: (c[0] + 1, c[1] + m[z + c[0]]), (jnp.zeros((), k.dtype), 0.0)
    )[1],
}


@pytest.mark.parametrize("way", OF_BOTH)
def test_states_are_looked_at_again_where_data_have_a_say(way):
    def model(k, y):
        z = numpyro.sample("z", dist.Categorical(jnp.array([0.2, 0.3, 0.5])))
        m = numpyro.sample("m", dist.Normal(0, 1).expand([3]).to_event(1))
        numpyro.sample("y", dist.Normal(OF_BOTH[way](m, z, k[0]), 1), obs=y)

    check(model, k=np.array([0]), y=0.3)
    with pytest.raises(jn.ModelError, match="entry 3 of an axis that has 3"):
        check(model, k=np.array([1]), y=0.3)


def test_states_are_looked_at_once_where_data_have_none(monkeypatch):
    walks, run = [], program.states_of
    monkeypatch.setattr(program, "states_of", lambda choices: walks.append(1) or run(choices))
    model = states_of(lambda m, z, b: m[z], 3)
    for y in (0.3, 0.4):
        check(model, y=y * np.ones(4))
    assert len(walks) == 1


def test_states_that_are_left_out_may_look_anything_up():
    check(states_of(lambda m, z, b: jnp.where(z < 2, m[z + 1], 0.0), 3), y=0.3)
    check(states_of(lambda m, z, b: jax.nn.one_hot(z, 2) @ m, 2), y=0.3)
    check(states_of(lambda m, z, b: m[z - 1], 3), y=0.3)  # the last one, as in NumPy
    never = lambda z, b: jnp.where(b * (z == 2) == 1, -jnp.inf, 0.0)  # noqa: E731
    check(states_of(lambda m, z, b: m[2 * b + z], 4, never), y=0.3)


def test_modes_that_the_program_asks_for():
    filled = model_of(lambda m, g: m.at[g].get(mode="fill", fill_value=0.0))
    dropped = model_of(lambda m, g: jnp.zeros(J).at[g].add(1.0, mode="drop") @ m)
    for model in (filled, dropped):
        check(model, g=BEYOND, y=Y)
        with pytest.raises(jn.DataError, match="is -1"):  # which JAX counts from the end all the same
            check(model, g=NEGATIVE, y=Y)


def crossed(g, h, y):
    a = numpyro.sample("a", dist.Normal(0, 1).expand([J, 3]).to_event(2))
    numpyro.sample("y", dist.Normal(a[g, h], 1), obs=y)


def one_based(g, y):
    m = numpyro.sample("m", dist.Normal(0, 1).expand([J]).to_event(1))
    numpyro.sample("y", dist.Normal(m[g - 1], 1), obs=y)


def counted(g, y):
    groups = len(np.unique(g))
    m = numpyro.sample("m", dist.Normal(0, 1).expand([groups]).to_event(1))
    numpyro.sample("y", dist.Normal(m[g - 1], 1), obs=y)


def one_by_one(g, y):
    m = numpyro.sample("m", dist.Normal(0, 1).expand([len(np.unique(g))]).to_event(1))
    for i in range(N):
        numpyro.sample(f"y{i}", dist.Normal(m[g[i]], 1), obs=y[i])


def one_by_one_in_python(g, y):
    m = numpyro.sample("m", dist.Normal(0, 1).expand([J]).to_event(1))
    for i, k in enumerate(np.asarray(g).tolist()):
        numpyro.sample(f"y{i}", dist.Normal(m[k], 1), obs=y[i])


def some_by_hand(g, y):
    """Looks up -1 and leaves it out."""
    m = numpyro.sample("m", dist.Normal(0, 1).expand([J]).to_event(1))
    for i in range(N):
        numpyro.sample(f"y{i}", dist.Normal(jnp.where(g[i] < 0, 0.0, m[int(g[i])]) + m[-1], 1), obs=y[i])


def one_number(g, y):
    m = numpyro.sample("m", dist.Normal(0, 1).expand([J]).to_event(1))
    numpyro.sample("y", dist.Normal(m[g], 1), obs=y)


def one_number_from_one(g, y):
    one_number(g - 1, y)


def branch(g, y):
    m = numpyro.sample("m", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(jax.lax.switch(g, [lambda: m, lambda: -m, lambda: 2 * m]), 1), obs=y)


def classes(y, x):
    p = numpyro.sample("p", dist.Dirichlet(jnp.ones(3)))
    with numpyro.handlers.mask(mask=x > 0):
        numpyro.sample("y", dist.Categorical(p), obs=y)


def walk(g, y):
    m = numpyro.sample("m", dist.Normal(0, 1).expand([J]).to_event(1))

    def step(before, now):
        z = numpyro.sample("z", dist.Normal(before + m[now[0]], 1))
        numpyro.sample("y", dist.Normal(z, 1), obs=now[1])
        return z, None

    scan(step, 0.0, (g, y))


def nested(d, y):
    m = numpyro.sample("m", dist.Normal(0, 1).expand([J]).to_event(1))
    numpyro.sample("y", dist.Normal(m[d["g"]], 1), obs=y)


ONES, H = np.ones(N), np.arange(N) % 3
BAD = {
    "second of two": (crossed, {"g": G, "h": H + 1, "y": Y}, ["'h'", "0..2", "is 3", "row 2"]),
    "already numbered from 0": (one_based, {"g": G, "y": Y}, ["'g'", "first is 0", "makes -1", "row 0"]),
    "numbers that the program needs": (counted, {"g": G, "y": Y}, ["'g'", "first is 0", "makes -1", "row 0"]),
    "one by one": (one_by_one, {"g": G + 1, "y": Y}, ["'g'", "0..4", "is 5", "row 4"]),
    "one by one, negative": (one_by_one, {"g": np.minimum(NEGATIVE, 3), "y": Y}, ["'g'", "0..4", "is -1", "row 7"]),
    "one by one, as Python's": (one_by_one_in_python, {"g": NEGATIVE, "y": Y}, ["'g'", "negative index", "row 7"]),
    "a Python number": (one_number, {"g": 7, "y": Y}, ["'g'", "0..4", "is 7"]),
    "a negative Python number": (one_number, {"g": -1, "y": Y}, ["'g'", "negative index", "x[-1]"]),
    "a Python number that starts from 0": (one_number_from_one, {"g": 0, "y": Y}, ["'g'", "negative index"]),
    "a Python number in a mapping": (lambda d, y: one_number(d["g"], y), {"d": {"g": 7}, "y": Y}, ["'d.g'", "is 7"]),
    "a list": (one_number, {"g": [0, 7, *G[2:]], "y": Y}, ["'g'", "is 7", "row 1"]),
    "a branch": (branch, {"g": 3, "y": Y}, ["'g'", "0..2, the branches of a choice", "is 3"]),
    "a label": (classes, {"y": H + 1, "x": ONES}, ["'y'", "support of Categorical", "0..2", "row 2"]),
    "a negative label": (classes, {"y": H - 1, "x": ONES}, ["'y'", "support of Categorical", "is -1", "row 0"]),
    "in numpyro's scan": (walk, {"g": G + 1, "y": Y}, ["'g'", "0..4", "is 5", "row 4"]),
    "in a mapping": (nested, {"d": {"g": G + 1}, "y": Y}, ["'d.g'", "0..4", "row 4"]),
}


@pytest.mark.parametrize("case", BAD)
def test_refused_with_key_and_row(case):
    model, data, words = BAD[case]
    with pytest.raises(jn.DataError) as raised:
        check(model, **data)
    for word in words:
        assert word in str(raised.value)


def test_programs_that_use_their_data_rightly():
    check(one_based, g=G + 1, y=Y)
    check(counted, g=G + 1, y=Y)
    check(one_by_one, g=G, y=Y)
    check(one_by_one_in_python, g=G, y=Y)
    check(some_by_hand, g=NEGATIVE, y=Y)
    check(one_number, g=4, y=Y)
    check(one_number, g=0, y=Y)
    check(one_number_from_one, g=5, y=Y)
    check(branch, g=2, y=Y)
    check(classes, y=H - 1, x=H)  # masked where negative
    check(walk, g=G, y=Y)


def test_an_index_written_in_the_program_beyond_its_axis():
    with pytest.raises(jn.ModelError, match=r"entry 7 of an axis that has 5, 0\.\.4"):
        check(model_of(lambda m, g: m[np.array([0, 7])][1]), g=G, y=Y)
    with pytest.raises(jn.ModelError, match=r"entry 7 of an axis that has 5, 0\.\.4"):
        check(model_of(lambda m, g: m[7]), g=G, y=Y)
    with pytest.raises(jn.ModelError, match=r"entry -6 of an axis that has 5, 0\.\.4"):
        check(model_of(lambda m, g: m[-6]), g=G, y=Y)
    with pytest.raises(jn.ModelError, match=r"branch 3 of 2, 0\.\.1"):
        check(model_of(lambda m, g: jax.lax.switch(3, [lambda: m[0], lambda: m[1]])), g=G, y=Y)


def quadratic(z, g, y):
    return -0.5 * jnp.sum(z["m"] ** 2) - 0.5 * jnp.sum((y - z["m"][g]) ** 2)


@pytest.mark.parametrize("method", ["auto", "laplace", "advi", "bbvi", "cavi", "svi", "hvm", "pathfinder"])
def test_every_method_refuses_before_any_work(method):
    model = model_of(WAYS["m[g]"])
    with pytest.raises(jn.DataError, match="'g' gives 2 indices outside"):
        jn.fit(model, {"g": BEYOND, "y": Y}, method, progress=False)


def test_log_densities_plans_and_wide_data():
    with pytest.raises(jn.DataError, match="'g' gives 2 indices outside"):
        jn.fit(jn.LogDensity(quadratic, {"m": J}), {"g": BEYOND, "y": Y}, "laplace", progress=False)
    with pytest.raises(jn.DataError, match="'g' gives an index outside"):
        jn.explain(model_of(WAYS["take"]), {"g": NEGATIVE, "y": Y})
    g = np.arange(300_000) % J
    checked(model_of(WAYS["m[g]"]), {"g": g, "y": 0.0 * g}, "single")
    with pytest.raises(jn.DataError, match="row 299999"):
        checked(model_of(WAYS["m[g]"]), {"g": np.append(g[:-1], J), "y": 0.0 * g}, "single")


def test_states_of_many_rows_take_one_entry():
    """Every row is tried at one state: what is computed of it needs no array of rows, marks of what is outside do."""

    def mixture(y):
        m = numpyro.sample("m", dist.Normal(0, 1).expand([J]).to_event(1))
        with numpyro.plate("row", len(y)):
            c = numpyro.sample("c", dist.Categorical(np.ones(J) / J))
            numpyro.sample("y", dist.Normal(m[c], 1), obs=y)

    y = np.zeros(400_000)
    arguments = convert({"y": y}, "double", copy=False)
    assert np.shares_memory(arguments["y"], y)
    assert not arguments["y"].flags.writeable
    assert y.flags.writeable
    tracemalloc.start()
    check_indices(mixture, arguments, "double")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.9 * y.nbytes


def test_a_density_outside_jax_counts_no_data_from_the_end():
    def outside(z, g, y):
        return float(-0.5 * np.sum(z["m"] ** 2) - 0.5 * np.sum((y - z["m"][g]) ** 2))

    model = jn.LogDensity(outside, {"m": J}, differentiable=False)
    check(model, g=G, y=Y)
    with pytest.raises(jn.DataError, match="'g' gives a negative index, -1"):
        check(model, g=NEGATIVE, y=Y)


def groups(g, y=None):
    m = numpyro.sample("m", dist.Normal(0, 1).expand([J]).to_event(1))
    with numpyro.plate("row", len(g)):
        numpyro.sample("y", dist.Normal(m[g], 1), obs=y)


def test_new_data_are_checked_like_the_first(tmp_path):
    fit = jn.fit(groups, {"g": G, "y": Y}, "cavi", progress=False)
    with pytest.raises(jn.DataError, match="'g' gives an index outside"):
        fit.predict({"g": np.array([0, 5])}, num_draws=10)
    fit.save(tmp_path / "fit.jensen")
    with pytest.raises(jn.DataError, match="'g' gives an index outside"):
        jn.load(tmp_path / "fit.jensen").attach(groups, {"g": NEGATIVE, "y": Y})
