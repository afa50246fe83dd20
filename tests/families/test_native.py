"""Native factors against quadrature or enumeration: mass, moments, entropy, Fisher information, choice by support."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints

from jensen._base.errors import ModelError
from jensen._families import native
from jensen._math.precision import working
from jensen._model.native import native_target
from jensen._program.structure import Site
from tests.estimators.enumeration import nodes
from tests.estimators.native_factors import FACTORS


@pytest.fixture(autouse=True)
def _double():
    with working("double"):
        yield


def over_nodes(factor, fn):
    """Σ over the values of one row of fn(value) q(value), for every row."""
    values, measure = nodes(factor)
    full = jnp.asarray(np.broadcast_to(values[:, None], (len(values), 2, *values.shape[1:])))

    def summed(full):
        mass = jnp.exp(jax.vmap(factor.log_prob)(full)) * measure[:, None]
        weight = jax.vmap(fn)(full)
        return jnp.sum(weight * mass.reshape(mass.shape + (1,) * (weight.ndim - 2)), axis=0)

    return np.asarray(jax.jit(summed)(full))


@pytest.mark.parametrize("name", FACTORS)
def test_mass_moments_and_entropy(name):
    factor = FACTORS[name]
    np.testing.assert_allclose(over_nodes(factor, lambda z: jnp.ones(2)), 1.0, rtol=2e-5)
    if factor.exact_moments:
        mean = over_nodes(factor, lambda z: z * 1.0)
        np.testing.assert_allclose(factor.mean(), mean, rtol=3e-4, atol=1e-6)
        np.testing.assert_allclose(factor.variance(), over_nodes(factor, lambda z: (z - mean) ** 2), rtol=3e-3)
    if factor.entropy() is not None:
        np.testing.assert_allclose(factor.entropy(), over_nodes(factor, lambda z: -factor.log_prob(z)), atol=2e-4)


@pytest.mark.parametrize("name", FACTORS)
def test_fisher_information_is_the_mean_squared_score(name):
    """The diagonal; for the negative binomial's shape a bound of the right size is enough, it only scales steps."""
    factor = FACTORS[name]

    def squares(z):
        slope = jax.grad(lambda f: jnp.sum(f.log_prob(z)))(factor)
        return jnp.stack([leaf.reshape(2, -1)[:, 0] ** 2 for leaf in jax.tree.leaves(slope)], axis=-1)

    exact = over_nodes(factor, squares)
    found = np.stack([np.asarray(x).reshape(2, -1)[:, 0] for x in jax.tree.leaves(factor.information())], axis=-1)
    if name == "negative_binomial":
        np.testing.assert_allclose(found[:, 0], exact[:, 0], rtol=1e-3)
        assert ((found[:, 1] / exact[:, 1] > 0.2) & (found[:, 1] / exact[:, 1] < 10)).all()
    else:
        np.testing.assert_allclose(found, exact, rtol=5e-3)


@pytest.mark.parametrize("name", ["bernoulli", "categorical"])
def test_a_whole_coordinate_step_lands_on_the_optimum(name):
    """With energies e the bound is Σ p (e - log p), and its optimum the softmax of e."""
    factor = FACTORS[name]
    energies = jnp.asarray(np.random.default_rng(0).normal(size=(2, factor.support().shape[0])) * 3)

    def bound(f):
        masses = f.log_masses()
        return jnp.sum(jnp.exp(masses) * (energies - masses))

    moved = factor.coordinate_step(jax.grad(bound)(factor), 1.0)
    np.testing.assert_allclose(moved.log_masses(), jax.nn.log_softmax(energies), atol=1e-9)


def site(support, shape=(2,)):
    return Site("s", "latent", "Some", support, shape, support.event_dim, ())


@pytest.mark.parametrize(
    ("support", "family", "shape"),
    [
        (constraints.real, native.Normal, (2,)),
        (constraints.real_vector, native.Normal, (2, 3)),
        (constraints.positive, native.Gamma, (2,)),
        (constraints.greater_than(1.5), native.Gamma, (2,)),
        (constraints.unit_interval, native.Beta, (2,)),
        (constraints.interval(-1.0, 2.0), native.Beta, (2,)),
        (constraints.simplex, native.Dirichlet, (2, 3)),
        (constraints.circular, native.VonMises, (2,)),
        (constraints.ordered_vector, native.Transformed, (2, 3)),
        (constraints.corr_cholesky, native.Transformed, (2, 3, 3)),
        (constraints.boolean, native.Bernoulli, (2,)),
        (constraints.integer_interval(2, 5), native.Categorical, (2,)),
        (constraints.integer_interval(0, 500), native.DiscretisedNormal, (2,)),
        (constraints.nonnegative_integer, native.DiscretisedNormal, (2,)),
        (constraints.positive_integer, native.DiscretisedNormal, (2,)),
    ],
    ids=str,
)
def test_the_family_of_a_support(support, family, shape):
    factor = native.native_factor(site(support, shape))
    assert type(factor) is family
    value = factor.sample(jr.key(0))
    assert value.shape == shape
    assert bool(jnp.all(support(value)))
    assert factor.log_prob(value).shape == factor.rows
    assert bool(jnp.isfinite(factor.log_prob(value)).all())


def test_a_factor_behind_a_bijection_keeps_its_form():
    """Its information and its tempered relative are trees like itself, and can be added to it."""
    factor = native.native_factor(site(constraints.ordered_vector, (2, 3)))
    for other in (factor.information(), factor.tempered(0.5)):
        jax.tree.map(jnp.add, factor, other)
    assert bool(jnp.isfinite(factor.tempered(0.5).log_prob(factor.sample(jr.key(0)))).all())


def test_a_negative_binomial_at_the_poisson_limit_keeps_its_digits():
    """At a shape of e²⁰ differences of log Γ(k + r) would leave nothing of the gradient but rounding errors."""
    factor = native.NegativeBinomial(jnp.array([1.0, 2.0]), jnp.array([20.0, 30.0]))
    k = jnp.array([4, 9])
    poisson = native.Poisson(factor.log_mean)
    np.testing.assert_allclose(factor.log_prob(k), poisson.log_prob(k), atol=2e-3)
    slope = jax.grad(lambda f: jnp.sum(f.log_prob(k)))(factor)
    np.testing.assert_array_equal(slope.log_shape, 0.0)
    np.testing.assert_allclose(slope.log_mean, k - poisson.mean(), rtol=2e-3)


def test_a_support_without_a_family_is_refused():
    with pytest.raises(ModelError, match="no family for the support of 's'"):
        native.native_factor(site(constraints.multinomial(4), (2, 3)))
    with pytest.raises(ModelError, match="ranges over 1000001 values"):
        native.native_factor(site(constraints.integer_interval(0, 10**6)))


def test_bounds_that_are_data():
    def model(low, y):
        with numpyro.plate("n", 3):
            a = numpyro.sample("a", dist.Uniform(low, low + 2))
            numpyro.sample("y", dist.Normal(a, 1), obs=y)

    low = np.array([0.0, 1.0, -3.0])
    target = native_target(model, {"low": low, "y": low}, "double")
    factor = native.native_product(target.structure.latents, target.supports).factors["a"]
    value = np.asarray(factor.sample(jr.key(0)))
    assert ((value > low) & (value < low + 2)).all()


def test_moments_keep_the_digits_of_a_fit_whatever_the_flag():
    q = native.Product({name: FACTORS[name] for name in ("gamma", "dirichlet", "negative_binomial")})
    inside = jax.device_get((q.means(), q.variances()))
    with jax.enable_x64(False):
        outside = jax.device_get((q.means(), q.variances()))
    for a, b in zip(jax.tree.leaves(inside), jax.tree.leaves(outside), strict=True):
        assert a.dtype == b.dtype == np.float64
        np.testing.assert_array_equal(a, b)
