"""Laws of every exponential-family factor: ∇A = E[t], the entropy, normalisation, draws."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jensen._families.exponential import (
    Beta,
    Categorical,
    CategoricalCopies,
    Dirichlet,
    DiscreteChain,
    GammaPower,
    GaussianChain,
    MultivariateNormal,
    Normal,
    NormalGamma,
    NormalWishart,
    Product,
    Wishart,
)
from jensen._math.precision import working

DRAWS = 40_000
RATE = np.array([[2.0, 0.5], [0.5, 1.0]])
FACTORS = {
    "normal": lambda: Normal({"z": jnp.array([0.3, -1.0]), "zz": jnp.array([-0.5, -2.0])}),
    "mvn": lambda: MultivariateNormal(
        {"z": jnp.array([[0.3, 1.0, -1.0]] * 2), "zz": -0.5 * jnp.stack([RATE, 2 * RATE, RATE])}, (0,)
    ),
    "gamma": lambda: GammaPower({"power": jnp.array([-2.0]), "log": jnp.array([3.5])}, 1.0),
    "inverse gamma": lambda: GammaPower({"power": jnp.array([-2.0]), "log": jnp.array([-7.0])}, -1.0),
    "half normal": lambda: GammaPower({"power": jnp.array([-0.5]), "log": jnp.array([0.0])}, 2.0),
    "beta": lambda: Beta({"log": jnp.array([1.0, 0.2]), "log1m": jnp.array([2.0, 3.0])}),
    "dirichlet": lambda: Dirichlet({"log": jnp.array([[1.0, 2.0, 0.5], [0.1, 3.0, 1.0]])}),
    "wishart": lambda: Wishart({"matrix": -0.5 * jnp.asarray(RATE), "logdet": jnp.array(2.0)}),
    "inverse wishart": lambda: Wishart({"matrix": -0.5 * jnp.asarray(RATE), "logdet": jnp.array(-7.0)}, True),
    "categorical": lambda: Categorical({"indicator": jnp.array([[0.3, -1.0, 2.0], [0.0, 0.0, 1.0]])}, np.arange(3)),
    "gaussian chain": lambda: GaussianChain(
        {
            "z": jnp.asarray(np.arange(10.0).reshape(5, 2) / 5),
            "zz": jnp.asarray(-0.5 * np.stack([RATE] * 5)),
            "cross": jnp.asarray(np.stack([[[0.4, 0.1], [0.0, 0.2]]] * 4)),
        },
        (0, 1),
    ),
    "scalar chain": lambda: GaussianChain(
        {"z": jnp.array([0.3, -1.0, 2.0]), "zz": jnp.array([-0.5, -1.0, -0.8]), "cross": jnp.array([0.7, -0.4])}, (0,)
    ),
    "discrete chain": lambda: DiscreteChain(
        {
            "indicator": jnp.asarray(np.sin(np.arange(10.0)).reshape(5, 2)),
            "pair": jnp.asarray(np.cos(np.arange(16.0)).reshape(4, 2, 2)),
        },
        np.arange(2),
    ),
    "wide discrete chain": lambda: DiscreteChain(
        {
            "indicator": jnp.asarray(np.sin(np.arange(18.0)).reshape(3, 6)),
            "pair": jnp.asarray(np.cos(np.arange(72.0)).reshape(2, 6, 6)),
        },
        np.arange(6),
    ),
    "normal wishart": lambda: NormalWishart(
        {
            "quadratic": jnp.array(-0.8),
            "product": jnp.array([0.5, -1.0]),
            "matrix": jnp.asarray(-RATE),
            "logdet": jnp.array(3.0),
        }
    ),
    "normal gamma": lambda: NormalGamma(
        {"tzz": jnp.array([-1.0]), "tz": jnp.array([1.2]), "t": jnp.array([-3.0]), "log": jnp.array([3.5])}
    ),
}


def summarised(factor):
    """All that the laws compare, from 40,000 draws: one program for each factor."""

    def log_normalizer(natural):
        return jnp.sum(eqx.tree_at(lambda f: f.natural, factor, natural).log_normalizer())

    values = jax.vmap(factor.draw)(jax.random.split(jax.random.key(7), DRAWS))
    logs = jax.vmap(factor.log_prob)(*values)
    drawn = {
        "statistics": spread(jax.vmap(factor.statistics)(*values)),
        "values": spread(values),
        "log_prob": spread(logs),
    }
    closed = {
        "gradient": jax.grad(log_normalizer)(factor.natural),
        "mean_params": factor.mean_params(),
        "entropy": factor.entropy(),
        "means": factor.means(),
        "variances": factor.variances(),
        "inside": jnp.all(factor.contains()),
    }
    return drawn, closed


def spread(tree):
    """(mean, sd) over draws."""
    return jax.tree.map(lambda a: (a.astype(float).mean(0), a.astype(float).std(0)), tree)


@pytest.fixture(scope="module", params=sorted(FACTORS))
def laws(request):
    with working("double"):
        return jax.device_get(eqx.filter_jit(summarised)(FACTORS[request.param]()))


def test_mean_params_are_the_gradient_of_the_log_normalizer(laws):
    _, closed = laws
    for name, moment in closed["mean_params"].items():
        slope = closed["gradient"][name]
        if name in ("matrix", "zz") and slope.ndim >= 2:
            slope = 0.5 * (slope + np.swapaxes(slope, -1, -2))
        np.testing.assert_allclose(slope, moment, rtol=1e-8, atol=1e-10)


def test_draws_have_the_mean_params(laws):
    """z-scores over all statistics; below 5 with probability above 1 - 1e-5 for a correct sampler."""
    drawn, closed = laws
    for name, moment in closed["mean_params"].items():
        mean, sd = drawn["statistics"][name]
        assert np.all(np.abs(mean - moment) < 5 * (sd / np.sqrt(DRAWS) + 1e-12) + 1e-9), name


def test_entropy_is_minus_the_mean_log_prob(laws):
    drawn, closed = laws
    mean, sd = drawn["log_prob"]
    assert abs(-mean - closed["entropy"]) < 5 * sd / np.sqrt(DRAWS) + 1e-9


def test_means_and_variances_match_draws(laws):
    drawn, closed = laws
    for (sample, sd), mean, variance in zip(drawn["values"], closed["means"], closed["variances"], strict=True):
        assert np.all(np.abs(sample - mean) < 6 * sd / np.sqrt(DRAWS) + 1e-9)
        np.testing.assert_allclose(sd**2, variance, rtol=0.15, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "grid"),
    [("gamma", np.linspace(1e-4, 30, 200_001)), ("half normal", np.linspace(1e-9, 12, 100_001))],
)
def test_positive_densities_integrate_to_one(name, grid):
    factor = FACTORS[name]()
    density = np.exp(np.asarray(jax.vmap(factor.log_prob)(jnp.asarray(grid)[:, None])))
    assert np.trapezoid(density, grid) == pytest.approx(1.0, abs=1e-6)


def test_discrete_density_sums_to_one():
    factor = FACTORS["categorical"]()
    values = jnp.array([[a, b] for a in range(3) for b in range(3)])
    assert float(jnp.exp(jax.vmap(factor.log_prob)(values)).sum()) == pytest.approx(1.0)


def test_contains_is_the_domain(laws):
    assert bool(laws[1]["inside"])


@pytest.mark.parametrize(
    "outside",
    [
        lambda: Normal({"z": jnp.array(0.0), "zz": jnp.array(0.1)}),
        lambda: GammaPower({"power": jnp.array(1.0), "log": jnp.array(1.0)}, 1.0),
        lambda: GammaPower({"power": jnp.array(-1.0), "log": jnp.array(1.0)}, -1.0),
        lambda: Wishart({"matrix": 0.5 * jnp.eye(2), "logdet": jnp.array(2.0)}),
        lambda: Dirichlet({"log": jnp.array([-2.0, 1.0])}),
        lambda: Beta({"log": jnp.array(-1.5), "log1m": jnp.array(1.0)}),
    ],
)
def test_outside_the_domain_is_seen(outside):
    assert not bool(jnp.all(outside().contains()))


def test_copies_have_the_entropy_of_their_number():
    """∇A = (r, H[r]) at any weights; the entropy of w copies is w H[r]."""
    weight, logits = np.array([2.0, 0.5]), np.array([[0.3, -1.0, 2.0], [0.0, 0.0, 1.0]])
    natural = {"indicator": jnp.asarray(weight[:, None] * logits), "copies": jnp.asarray(weight)}
    factor = CategoricalCopies(natural, np.arange(3))
    one = Categorical({"indicator": jnp.asarray(logits)}, np.arange(3))
    gradient = jax.grad(lambda n: jnp.sum(CategoricalCopies(n, np.arange(3)).log_normalizer()))(natural)
    for key, moment in factor.mean_params().items():
        np.testing.assert_allclose(gradient[key], moment, rtol=1e-10)
    np.testing.assert_allclose(factor.probs, one.probs, rtol=1e-12)
    assert float(jnp.sum(factor.mean_params()["copies"])) == pytest.approx(float(one.entropy()), abs=1e-12)
    assert float(factor.entropy()) == pytest.approx(0.0, abs=1e-12)


def test_product_adds_up():
    q = Product(
        {"a": FACTORS["normal"](), "b": FACTORS["categorical"](), "nt": FACTORS["normal gamma"]()},
        (("a", ("a",)), ("b", ("b",)), ("nt", ("n", "t"))),
    )
    value = q.sample(jax.random.key(0))
    assert set(value) == {"a", "b", "n", "t"}
    parts = q.factors["a"].log_prob(value["a"]) + q.factors["b"].log_prob(value["b"])
    parts = parts + q.factors["nt"].log_prob(value["n"], value["t"])
    assert float(q.log_prob(value)) == pytest.approx(float(parts))
    assert set(q.means()) == set(q.variances()) == set(value)
    drawn = q.draw(jax.random.key(1))
    assert float(drawn.log_prob) == pytest.approx(float(q.log_prob(drawn.value)))


@pytest.mark.parametrize(
    "factor",
    [
        FACTORS["dirichlet"],
        FACTORS["beta"],
        lambda: Dirichlet({"log": jnp.array([-0.95, -0.9, 2.0])}),
        lambda: Beta({"log": jnp.array([-0.9]), "log1m": jnp.array([-0.95])}),
        FACTORS["wishart"],
        FACTORS["inverse wishart"],
    ],
)
def test_draws_by_numpy_have_the_statistics_of_the_factor(factor):
    """E[log z_k] = ψ(a_k) - ψ(Σ a), also where shares are as small as a sparse prior makes them."""
    with working("double"):
        factor = factor()
        (drawn,) = factor.host_draws(np.random.default_rng(0), DRAWS)
        for name, value in factor.statistics(jnp.asarray(drawn)).items():
            if name == "log1m" and drawn.max() > 1.0 - 1e-12:  # 1 - z is rounded where z is nearly 1
                continue
            value = np.asarray(value)
            error = value.std(axis=0) / np.sqrt(DRAWS)
            assert np.all(np.abs(value.mean(axis=0) - factor.mean_params()[name]) < 4.5 * error)
