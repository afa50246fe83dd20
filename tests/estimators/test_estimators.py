"""Estimators: unbiased against quadrature, silent at the posterior, exact on quadratics; the law sees a 2 % bias."""

import functools
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from jensen._bounds import ELBO, ImportanceWeighted
from jensen._core import AbstractEstimator
from jensen._estimators import FixedDraws, Pathwise, StickingTheLanding
from jensen._families import FullRank, LowRank, MeanField, OnSupport
from jensen._math.noise import symmetric_draws
from jensen._math.precision import working
from jensen._model import LogDensity, build
from tests.estimators.joint_only import JointOnly
from tests.estimators.laws import assert_unbiased, exact_elbo, per_key, sampled
from tests.zoo import ESTIMATORS, FAMILIES, MODELS

PRECISION = np.array([[2.0, 0.8], [0.8, 1.0]])
LINEAR = np.array([1.0, -3.0])
X = np.random.default_rng(0).normal(size=(12, 2)) * 2
LABELS = np.array([1, 0, 1, 1, 0, 1, 0, 0, 1, 1, 1, 0])


def quadratic(u):
    return LINEAR @ u - 0.5 * u @ PRECISION @ u


def logistic(u):
    logits = X @ u
    return jnp.sum(LABELS * logits - jax.nn.softplus(logits)) - 0.5 * jnp.sum(u**2)


DENSITIES = {"quadratic": quadratic, "logistic": logistic}


@functools.cache
def target_of(density, dim=2):
    return build(LogDensity(lambda z: density(z["u"]), {"u": dim}), {}, "double")


@pytest.fixture(autouse=True)
def _double():
    with working("double"):
        yield


def flat_model(density, dim=2):
    """The model as a density over the flat vector, which a Gaussian family draws directly."""
    return _Flat(target_of(density, dim).model)


class _Flat(JointOnly):
    model: eqx.Module
    energy: float = 1.0

    def log_joint(self, latent, batch=None):
        return {"u": self.energy * self.model.log_density(latent)}


# --- unbiasedness ----------------------------------------------------------------------------------------------------


def test_the_quadrature_is_the_closed_form_on_a_quadratic():
    q = FAMILIES["full_rank"](2, np.random.default_rng(1))
    mean, covariance = np.asarray(q.loc), q.covariance()
    energy = LINEAR @ mean - 0.5 * (mean @ PRECISION @ mean + np.trace(PRECISION @ covariance))
    assert float(exact_elbo(q, quadratic)) == pytest.approx(energy + float(q.entropy()), abs=1e-10)


@functools.cache
def every_estimator(family, density, num_draws=1):
    q = FAMILIES[family](2, np.random.default_rng(1))
    estimators = {name: make(num_draws) for name, make in ESTIMATORS.items()}
    if (family, density, num_draws) == ("mean_field", "quadratic", 1):
        estimators |= {f"biased {name}": _Biased(estimator) for name, estimator in estimators.items()}
        estimators["forgetful"] = _Forgetful()
    return sampled(estimators, flat_model(DENSITIES[density]), q, DENSITIES[density])


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_unbiased(name, family, density):
    """2·10⁵ keys a case, 120 z-scores in all, each below 4: a false alarm in 0.8 % of keys; the key is fixed."""
    assert_unbiased(*every_estimator(family, density)[name])


@pytest.mark.parametrize("name", ESTIMATORS)
def test_several_draws_are_averaged(name):
    (values, _), (exact, _) = every_estimator("mean_field", "quadratic", num_draws=3)[name]
    assert_unbiased(*every_estimator("mean_field", "quadratic", num_draws=3)[name])
    single = every_estimator("mean_field", "quadratic")[name][0][0]
    # A ratio of variances from 2·10⁵ keys has a relative error of about 0.5 %.
    assert values.var() == pytest.approx(single.var() / 3, rel=0.05)
    assert values.mean() == pytest.approx(float(exact), abs=0.1)


class _Biased(AbstractEstimator):
    """An estimator whose energy is 2 % too large."""

    linear_only: ClassVar[bool] = False
    inner: AbstractEstimator
    energy: float = 1.02

    def __call__(self, bound, model, q, batch, key):
        return self.inner(bound, _Flat(model.model, self.energy), q, batch, key)


class _Forgetful(AbstractEstimator):
    """Differentiates through log q's parameters only: what is dropped, the path through log q, has a mean."""

    linear_only: ClassVar[bool] = False

    def __call__(self, bound, model, q, batch, key):
        draw = q.draw(key)
        return bound((model.log_joint(draw.value)["u"] - q.log_prob(jax.lax.stop_gradient(draw.value)))[None])


@pytest.mark.parametrize("name", [*(f"biased {name}" for name in ESTIMATORS), "forgetful"])
def test_the_law_catches_a_bias_of_two_per_cent_and_a_forgotten_term(name):
    with pytest.raises(AssertionError):
        assert_unbiased(*every_estimator("mean_field", "quadratic")[name])


@pytest.mark.parametrize("name", ESTIMATORS)
def test_unbiased_on_a_constrained_support(name):
    """The same number on both sides of the map: one gradient through `OnSupport` is the flat one, draw by draw."""
    target = build(MODELS["eight_schools"].model, MODELS["eight_schools"].data, "double")
    base = FAMILIES["mean_field"](target.dim, np.random.default_rng(2))
    estimator = ESTIMATORS[name](4)

    def above(base):
        return estimator(ELBO(), target.model, OnSupport(base, target.model.bijection), None, jr.key(5))

    def below(base):
        return estimator(ELBO(), _Flat(target.model), base, None, jr.key(5))

    ours, theirs = jax.jit(lambda base: (jax.value_and_grad(above)(base), jax.value_and_grad(below)(base)))(base)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


# --- at the exact posterior ------------------------------------------------------------------------------------------


def posterior(family):
    covariance = np.linalg.inv(PRECISION)
    mean = covariance @ LINEAR
    if family == "full_rank":
        return quadratic, FullRank.from_factor(mean, np.linalg.cholesky(covariance))
    if family == "low_rank":
        return quadratic, LowRank.from_covariance(mean, covariance, rank=1)
    return (lambda u: -0.5 * jnp.sum(u**2 / jnp.array([4.0, 0.25]))), MeanField(np.zeros(2), np.log([2.0, 0.5]))


@pytest.mark.parametrize("family", FAMILIES)
def test_sticking_the_landing_is_zero_for_every_draw_at_the_posterior(family):
    density, q = posterior(family)
    values, gradients = per_key(StickingTheLanding(1), ELBO(), _Flat(target_of(density).model), q, num_keys=500)
    for leaf in jax.tree.leaves(gradients):
        assert np.abs(leaf).max() < 1e-12
    assert np.asarray(values).std() < 1e-12  # and the value is the evidence every time
    assert float(values[0]) == pytest.approx(float(exact_elbo(q, density)), abs=1e-12)


@pytest.mark.parametrize("name", ["pathwise", "exact_entropy"])
def test_the_others_are_not(name):
    density, q = posterior("full_rank")
    _, gradients = per_key(ESTIMATORS[name](1), ELBO(), flat_model(density), q, num_keys=500)
    assert np.asarray(gradients.log_diagonal).std() > 0.1


# --- the importance-weighted bound -----------------------------------------------------------------------------------


def test_pathwise_gradient_of_the_importance_weighted_bound():
    """p = N(z; 0, 1) N(1.3; z, 1), q = N(0.1, 0.9²), K = 5: ∂L₅/∂m = 0.1626 ± 0.0001 (golden value of METHODS 1.4).

    4·10⁵ groups, one z-score below 4: a false alarm in 0.006 % of keys; the key is fixed.
    """

    def density(u):
        return -jnp.log(2 * jnp.pi) - 0.5 * u[0] ** 2 - 0.5 * (1.3 - u[0]) ** 2

    q = MeanField(np.array([0.1]), np.log([0.9]))
    _, gradients = per_key(Pathwise(5), ImportanceWeighted(5), flat_model(density, 1), q, num_keys=400_000)
    slopes = np.asarray(gradients.loc)[:, 0]
    assert abs(slopes.mean() - 0.1626) < 4 * slopes.std() / np.sqrt(len(slopes)) + 1e-4
    # Five draws a key: the variance of the whole gradient. METHODS states .585 for this estimator.
    assert slopes.var() == pytest.approx(0.585, rel=0.05)
    _, stuck = per_key(StickingTheLanding(5), ImportanceWeighted(5), flat_model(density, 1), q, num_keys=100_000)
    assert np.asarray(stuck.loc).mean() == pytest.approx(0.741, abs=0.01)  # biased, as its docstring says


# --- fixed draws -----------------------------------------------------------------------------------------------------


def fixed(dim, num_draws, seed=0):
    return FixedDraws(symmetric_draws(num_draws, dim, seed))


@pytest.mark.parametrize("num_draws", [2, 8, 16, 32])
def test_fixed_symmetric_draws_have_the_exact_optimum_on_a_quadratic(num_draws):
    """Mean-field optimum of a Gaussian: its mean, and scales from the precision's diagonal, with no noise at all."""
    optimum = MeanField(np.linalg.solve(PRECISION, LINEAR), -0.5 * np.log(np.diag(PRECISION)))
    estimator = fixed(2, num_draws)

    def objective(q):
        return estimator(ELBO(), flat_model(quadratic), q, None)

    value, slope = jax.jit(jax.value_and_grad(objective))(optimum)
    np.testing.assert_allclose(slope.loc, 0.0, atol=1e-12)
    if num_draws >= 8:  # whitened: cross moments vanish too, and the value is exact
        np.testing.assert_allclose(slope.log_scale, 0.0, atol=1e-12)
        assert float(value) == pytest.approx(float(exact_elbo(optimum, quadratic)), abs=1e-12)


def test_linear_response_of_fixed_draws_is_the_exact_covariance_on_a_quadratic():
    optimum = MeanField(np.linalg.solve(PRECISION, LINEAR), -0.5 * np.log(np.diag(PRECISION)))
    estimator = fixed(2, 16)

    def objective(flat):
        return estimator(ELBO(), flat_model(quadratic), MeanField(flat[:2], flat[2:]), None)

    hessian = jax.jit(jax.hessian(objective))(jnp.concatenate([optimum.loc, optimum.log_scale]))
    np.testing.assert_allclose(np.linalg.inv(-hessian)[:2, :2], np.linalg.inv(PRECISION), atol=1e-8)


def test_fixed_draws_need_no_key_and_ignore_one():
    q = FAMILIES["mean_field"](2, np.random.default_rng(1))
    estimator = fixed(2, 8)
    values = [estimator(ELBO(), flat_model(logistic), q, None, key) for key in (None, jr.key(0), jr.key(1))]
    assert float(values[0]) == float(values[1]) == float(values[2])


def test_fixed_draws_converge_to_the_elbo():
    q = FAMILIES["full_rank"](2, np.random.default_rng(1))
    exact = float(exact_elbo(q, logistic))
    errors = [abs(float(fixed(2, m)(ELBO(), flat_model(logistic), q, None)) - exact) for m in (8, 4096)]
    assert errors[1] < 0.02
    assert errors[1] < errors[0]


def test_antithetic_without_rescaling_would_miss_the_scales():
    """The planted bug for the exact optimum: mirrored draws whose second moment is not one."""
    half = np.random.default_rng(0).normal(size=(8, 2))
    estimator = FixedDraws(np.concatenate([half, -half]))
    optimum = MeanField(np.linalg.solve(PRECISION, LINEAR), -0.5 * np.log(np.diag(PRECISION)))
    slope = jax.jit(jax.grad(lambda q: estimator(ELBO(), flat_model(quadratic), q, None)))(optimum)
    np.testing.assert_allclose(slope.loc, 0.0, atol=1e-12)
    assert np.abs(slope.log_scale).max() > 0.05


# --- draws, precision, keys ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_same_key_gives_the_same_bits(name):
    q = FAMILIES["low_rank"](2, np.random.default_rng(1))
    run = jax.jit(lambda key: ESTIMATORS[name](4)(ELBO(), flat_model(logistic), q, None, key))
    assert float(run(jr.key(1))) == float(run(jr.key(1))) != float(run(jr.key(2)))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_single_precision(name):
    with working("single"):
        target = build(LogDensity(lambda z: -0.5 * jnp.sum(z["u"] ** 2), {"u": 2}), {}, "single")
        q = MeanField(jnp.zeros(2), jnp.zeros(2))
        value, slope = jax.value_and_grad(
            lambda q: ESTIMATORS[name](4)(ELBO(), _Flat(target.model), q, None, jr.key(0))
        )(q)
        assert {leaf.dtype for leaf in jax.tree.leaves((value, slope))} == {jnp.dtype("float32")}
        assert np.isfinite(value)
