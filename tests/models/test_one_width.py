"""Programs written for JAX's default types run in double precision as they are."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.contrib.control_flow import scan
from scipy import stats

import jensen as jn
from jensen._data.data_check import convert
from jensen._math.precision import working
from jensen._model.build import build
from jensen._model.native import native_target
from jensen._program.number_widths import seeded

SEEN = np.array([[1, 1, 0, 1], [1, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 1]])
N = SEEN.shape[1]


def survival(start, after=lambda z: z):
    """Alive or dead animals, seen or not: the start of the scan and what its steps carry on are the user's."""

    def model(seen):
        phi = numpyro.sample("phi", dist.Uniform(0, 1))
        rho = numpyro.sample("rho", dist.Uniform(0, 1))

        def step(z, now):
            with numpyro.plate("animal", N):
                z = numpyro.sample("z", dist.Bernoulli(phi * z), infer={"enumerate": "parallel"})
                numpyro.sample("seen", dist.Bernoulli(rho * z), obs=now)
            return after(z), None

        scan(step, start(), seen)

    return model


def evidence(phi, rho):
    """Σ_z p(seen, z | φ, ρ), by the forward recursion."""
    total = 0.0
    for history in SEEN.T:
        alive, dead = 1.0, 0.0
        for s in history:
            alive, dead = alive * phi * (rho if s else 1 - rho), (1 - s) * (dead + alive * (1 - phi))
        total += np.log(alive + dead)
    return total


STARTS = {
    "int8": (lambda: jnp.ones(N, jnp.int8), lambda z: z),
    "int16": (lambda: jnp.ones(N, jnp.int16), lambda z: z),
    "int32": (lambda: jnp.ones(N, jnp.int32), lambda z: z),
    "NumPy's int32": (lambda: np.ones(N, np.int32), lambda z: z),
    "int64": (lambda: jnp.ones(N, int), lambda z: z),
    "uint8": (lambda: jnp.ones(N, jnp.uint8), lambda z: z),
    "cast in the step": (lambda: jnp.ones(N, jnp.int32), lambda z: z.astype(jnp.int32)),
    "bool": (lambda: jnp.ones(N, bool), lambda z: z == 1),
    "float32": (lambda: jnp.ones(N, jnp.float32), lambda z: 1.0 * z),
    "float16": (lambda: jnp.ones(N, jnp.float16), lambda z: 1.0 * z),
}


@pytest.mark.parametrize("precision", ["double", "single"])
@pytest.mark.parametrize("start", STARTS)
def test_a_state_may_start_in_any_width(start, precision):
    with working(precision):
        seen = convert({"seen": SEEN}, precision)["seen"]
        found = jax.eval_shape(lambda: handlers.trace(seeded(survival(*STARTS[start]))).get_trace(seen)["z"]["value"])
        assert found.dtype == jnp.result_type(int)


@pytest.mark.parametrize(
    "carry",
    [
        lambda: (jnp.int32(0), jnp.float32(0.0), {"key": jax.random.PRNGKey(0)}),
        lambda: (0, 0.0, {"key": jax.random.PRNGKey(0)}),
        lambda: (np.int8(0), np.float64(0), {"key": jax.random.key(0)}),
    ],
)
def test_several_states_and_keys_among_them(carry):
    def model(y):
        def step(state, now):
            count, level, inside = state
            level = numpyro.sample("level", dist.Normal(level, 1))
            state = numpyro.sample("state", dist.Categorical(jnp.ones(3) / 3))
            numpyro.sample("y", dist.Normal(level + state, 1), obs=now)
            return (count + state, level, {"key": jax.random.split(inside["key"])[0]}), count

        return scan(step, carry(), y)

    with working("double"):
        (count, level, inside), counts = jax.eval_shape(lambda y: seeded(model)(y), jnp.ones(4))
    assert (count.dtype, level.dtype, counts.shape) == (jnp.int64, jnp.float64, (4,))
    assert inside["key"].dtype in (jnp.uint32, jax.random.key(0).dtype)


def test_a_state_that_differs_in_kind_is_refused_by_the_line():
    words = r"begins as int64\[4\] and goes on as float64\[4\].*jnp.asarray\(start, jnp.float64\)"
    with pytest.raises(jn.ModelError, match=words):
        jn.explain(survival(lambda: jnp.ones(N, jnp.int32), lambda z: 0.5 * z), {"seen": SEEN})

    def loop(y):
        m = numpyro.sample("m", dist.Normal(0, 1))
        count = jax.lax.fori_loop(0, 3, lambda i, c: c + jnp.arange(2).sum(), jnp.uint32(0))
        numpyro.sample("y", dist.Normal(m * count, 1), obs=y)

    with pytest.raises(jn.ModelError, match=r"begins as uint32\[\] and goes on as int64\[\]"):
        jn.explain(loop, {"y": np.ones(3)})


def test_the_density_of_a_state_that_starts_as_int32_is_exact():
    phi, rho = 0.7, 0.6
    target = build(survival(*STARTS["int32"]), {"seen": SEEN.astype(np.int16)}, "double")
    with working("double"):
        terms = jax.jit(lambda m, z: m.log_joint(z))(target.model, {"phi": jnp.asarray(phi), "rho": jnp.asarray(rho)})
        found = sum(float(jnp.sum(term)) for term in terms.values())
    assert found == pytest.approx(evidence(phi, rho), abs=1e-9)


COUNTS = {
    "Binomial": lambda n, p: dist.Binomial(n, probs=p),
    "BinomialLogits": lambda n, p: dist.Binomial(n, logits=p),
    "BetaBinomial": lambda n, p: dist.BetaBinomial(2.0, 3.0, n),
    "Multinomial": lambda n, p: dist.Multinomial(n, jnp.ones((3, 2)) / 2, total_count_max=5),
    "DirichletMultinomial": lambda n, p: dist.DirichletMultinomial(jnp.ones((3, 2)), n, total_count_max=5),
    "ZeroInflated": lambda n, p: dist.ZeroInflatedDistribution(dist.Binomial(n, probs=p), gate=0.1),
    "masked": lambda n, p: dist.Binomial(n, probs=p).mask(jnp.ones(3, bool)),
}


@pytest.mark.parametrize("width", ["data", np.int32, np.uint8, np.int16])
@pytest.mark.parametrize("kind", COUNTS)
def test_counts_of_any_width_are_drawn(kind, width):
    """Given as data, and written in the program."""

    def model(n):
        n = n if width == "data" else jnp.asarray([4, 5, 3], width)
        numpyro.sample("y", COUNTS[kind](n, 0.5 * jnp.ones(3)))

    with working("double"):
        n = convert({"n": np.array([4, 5, 3], np.int8)}, "double")["n"]
        found = jax.eval_shape(
            lambda key: handlers.trace(seeded(model, key)).get_trace(n)["y"]["value"], jnp.zeros(2, jnp.uint32)
        )
    assert found.shape[0] == 3
    assert found.dtype in (jnp.int64, jnp.float64)


def test_predictions_of_int32_counts_are_exact(tmp_path):
    def model(n, y=None):
        p = numpyro.sample("p", dist.Beta(1, 1))
        with numpyro.plate("row", len(n)):
            numpyro.sample("y", dist.Binomial(n, probs=p), obs=y)

    n, y = np.array([45, 45, 30], np.int32), np.array([18, 17, 9], np.uint8)
    want = n * (1 + y.sum(dtype=int)) / (2 + n.sum())
    fit = jn.fit(model, {"n": n, "y": y}, "cavi", progress=False)
    fit.save(tmp_path / "fit.jensen")
    again = jn.load(tmp_path / "fit.jensen").attach(model, {"n": jnp.asarray(n), "y": y.astype(np.int16)})
    for one in (fit, again):
        assert one.predict(num_draws=4000)["y"].mean(0) == pytest.approx(want, abs=0.4)


def test_counts_of_multinomials_may_be_data():
    def model(n, y=None):
        p = numpyro.sample("p", dist.Dirichlet(jnp.ones(3)))
        with numpyro.plate("row", len(n)):
            numpyro.sample("y", dist.Multinomial(n, p), obs=y)

    y = np.array([[1, 2, 3], [4, 4, 1]], np.int32)
    fit = jn.fit(model, {"n": y.sum(1).astype(np.int16), "y": y}, "cavi", progress=False)
    drawn = fit.predict(num_draws=50)["y"]
    assert (drawn.sum(-1) == y.sum(1)).all()


def test_whole_numbers_have_one_width():
    given = {"a": np.array([1, 2], np.uint8), "b": np.array([1, 2], np.int64), "c": np.array([True, False])}
    assert [v.dtype for v in convert(given, "double").values()] == [np.int64, np.int64, bool]
    assert [v.dtype for v in convert(given, "single").values()] == [np.int32, np.int32, bool]
    with pytest.raises(jn.DataError, match=r"'a' holds whole numbers beyond 32 bits.*row 1"):
        convert({"a": np.array([1, 2**40])}, "single")
    with pytest.raises(jn.DataError, match=r"'a' holds whole numbers beyond 64 bits.*row 0"):
        convert({"a": np.array([2**63, 1], np.uint64)}, "double")


@pytest.mark.parametrize("seen", [2, np.array(2), True])
def test_observations_written_in_the_program_where_the_support_depends_on_latents(seen):
    """NumPyro compares such values with a traced bound in NumPy: z of z trials."""

    def model():
        z = numpyro.sample("z", dist.Poisson(3.0))
        numpyro.sample("y", dist.Binomial(z, 0.5), obs=seen)

    z = np.arange(2, 6)
    found = native_target(model, {}, "double").log_joint({"z": z})
    np.testing.assert_allclose(found, stats.poisson.logpmf(z, 3.0) + stats.binom.logpmf(int(seen), z, 0.5))
