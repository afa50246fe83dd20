"""Laws of every exponential-family factor: ∇A = E[t], the entropy, normalisation, draws."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jensen.families.exponential import (
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


@pytest.fixture(params=sorted(FACTORS))
def factor(request):
    return FACTORS[request.param]()


def test_mean_params_are_the_gradient_of_the_log_normalizer(factor):
    def log_normalizer(natural):
        return jnp.sum(eqx.tree_at(lambda f: f.natural, factor, natural).log_normalizer())

    gradient = jax.grad(log_normalizer)(factor.natural)
    for name, moment in factor.mean_params().items():
        slope = gradient[name]
        if name in ("matrix", "zz") and slope.ndim >= 2:
            slope = 0.5 * (slope + jnp.swapaxes(slope, -1, -2))
        np.testing.assert_allclose(slope, moment, rtol=1e-8, atol=1e-10)


def draws(factor, count=40_000):
    return jax.vmap(factor.draw)(jax.random.split(jax.random.key(7), count))


def test_draws_have_the_mean_params(factor):
    """z-scores over all statistics; below 5 with probability above 1 - 1e-5 for a correct sampler."""
    values = draws(factor)
    statistics = jax.vmap(factor.statistics)(*values)
    for name, moment in factor.mean_params().items():
        sample = np.asarray(statistics[name], float)
        error = sample.std(0) / np.sqrt(len(sample)) + 1e-12
        assert np.all(np.abs(sample.mean(0) - moment) < 5 * error + 1e-9), name


def test_entropy_is_minus_the_mean_log_prob(factor):
    values = draws(factor)
    logs = np.asarray(jax.vmap(factor.log_prob)(*values), float)
    assert abs(-logs.mean() - factor.entropy()) < 5 * logs.std() / np.sqrt(len(logs)) + 1e-9


def test_means_and_variances_match_draws(factor):
    for value, mean, variance in zip(draws(factor), factor.means(), factor.variances(), strict=True):
        value = np.asarray(value, float)
        spread = value.std(0) / np.sqrt(len(value))
        assert np.all(np.abs(value.mean(0) - mean) < 6 * spread + 1e-9)
        np.testing.assert_allclose(value.var(0), variance, rtol=0.15, atol=1e-9)


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


def test_contains_is_the_domain(factor):
    assert bool(jnp.all(factor.contains()))


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
