"""The bounds where the evidence is known: never above it, rising with the particles, exact at the posterior."""

import itertools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from numpyro.distributions import constraints
from scipy import special, stats

from jensen._bounds import ELBO, ImportanceWeighted
from jensen._core import AbstractDensity, Draw
from jensen._estimators.pathwise import log_weights
from jensen._families import FullRank, MeanField, OnSupport
from jensen._math.precision import working
from jensen._model import LogDensity, build
from tests.models.zoo_models import normal_mean
from tests.zoo import BOUNDS


@pytest.fixture(autouse=True)
def _double():
    with working("double"):
        yield


# --- a model that is enumerated: three states, unnormalised weights p(x, z) ------------------------------------------

JOINT = np.array([0.03, 0.002, 0.11])
PROPOSAL = np.array([0.5, 0.3, 0.2])


def enumerated(bound, num_draws, proposal=PROPOSAL):
    """E[bound] over every tuple of draws: exact."""
    states = np.array(list(itertools.product(range(3), repeat=num_draws)))
    weights = np.log(JOINT / proposal)[states]
    return float(jax.vmap(bound)(jnp.asarray(weights)) @ np.prod(proposal[states], axis=1))


def test_importance_weighted_rises_with_the_particles_to_the_evidence():
    values = [enumerated(ImportanceWeighted(k), k) for k in range(1, 8)]
    assert values[0] == pytest.approx(enumerated(ELBO(), 1), abs=1e-12)
    assert (np.diff(values) > 0).all()
    assert values[-1] < np.log(JOINT.sum())
    # The gap closes like var(w) / (2 K E[w]²) (Domke and Sheldon 2018, theorem 3).
    near = 0.1 * PROPOSAL + 0.9 * JOINT / JOINT.sum()
    ratio = JOINT / near / JOINT.sum()
    gap = np.log(JOINT.sum()) - enumerated(ImportanceWeighted(7), 7, near)
    assert gap == pytest.approx((near @ ratio**2 - 1) / 14, rel=0.1)


def test_elbo_is_evidence_minus_divergence():
    posterior = JOINT / JOINT.sum()
    divergence = np.sum(PROPOSAL * np.log(PROPOSAL / posterior))
    for draws in (1, 2, 3):
        assert enumerated(ELBO(), draws) == pytest.approx(np.log(JOINT.sum()) - divergence, abs=1e-12)


@pytest.mark.parametrize("name", BOUNDS)
def test_every_bound_is_exact_for_every_draw_at_the_posterior(name):
    weights = jnp.full(16, np.log(JOINT.sum()))
    assert float(BOUNDS[name](weights)) == pytest.approx(np.log(JOINT.sum()), abs=1e-14)


@pytest.mark.parametrize("name", BOUNDS)
def test_no_bound_exceeds_the_evidence(name):
    bound = BOUNDS[name]
    count = getattr(bound, "num_particles", 1)
    for seed in range(5):
        proposal = np.random.default_rng(seed).dirichlet(np.ones(3))
        assert enumerated(bound, count, proposal) <= np.log(JOINT.sum()) + 1e-12


def test_a_bound_without_the_division_by_k_would_be_caught():
    assert enumerated(jax.nn.logsumexp, 3) > np.log(JOINT.sum())


# --- Gaussian mean: evidence in closed form, L_K by Gauss-Hermite products -------------------------------------------

Y = np.array([0.5, 1.7, -0.3])
PRIOR_SD = 10.0
EVIDENCE = stats.multivariate_normal(np.zeros(3), np.eye(3) + PRIOR_SD**2).logpdf(Y)
POSTERIOR_SD = (3 + PRIOR_SD**-2) ** -0.5
POSTERIOR_MEAN = POSTERIOR_SD**2 * Y.sum()


def gaussian_model():
    return build(normal_mean, {"y": Y}, "double").model


def test_weights_are_the_evidence_for_every_draw_at_the_exact_gaussian_posterior():
    model = gaussian_model()
    base = FullRank.from_factor(np.array([POSTERIOR_MEAN]), np.array([[POSTERIOR_SD]]))
    q = OnSupport(base, model.bijection)
    draws = jax.vmap(q.draw)(jr.split(jr.key(0), 1000))
    weights = log_weights(model, draws, None)
    np.testing.assert_allclose(weights, EVIDENCE, atol=1e-10)
    for bound in BOUNDS.values():
        assert float(bound(weights)) == pytest.approx(EVIDENCE, abs=1e-10)
    wide = OnSupport(base.affine(np.zeros(1), np.ones(1) * 1.02), model.bijection)
    assert float(log_weights(model, jax.vmap(wide.draw)(jr.split(jr.key(0), 1000)), None).std()) > 0.01


def test_importance_weighted_on_the_gaussian_by_quadrature():
    model = gaussian_model()
    q = MeanField(np.array([POSTERIOR_MEAN + 0.2]), np.log([POSTERIOR_SD * 1.3]))
    nodes, masses = np.polynomial.hermite_e.hermegauss(60)
    masses = masses / masses.sum()
    points = q.host_transform(nodes[:, None])
    weights = np.asarray(jax.vmap(model.log_density)(points)) - q.host_log_prob(points)
    elbo = masses @ weights
    ratio = 1.3
    divergence = -np.log(ratio) + 0.5 * (ratio**2 + (0.2 / POSTERIOR_SD) ** 2 - 1)
    assert elbo == pytest.approx(EVIDENCE - divergence, abs=1e-10)
    values = []
    for k in (1, 2, 3):
        grids = np.stack(np.meshgrid(*[weights] * k, indexing="ij"), axis=-1).reshape(-1, k)
        mass = np.prod(np.stack(np.meshgrid(*[masses] * k, indexing="ij"), axis=-1).reshape(-1, k), axis=1)
        values.append(float(mass @ jax.vmap(ImportanceWeighted(k))(grids)))
    assert values[0] == pytest.approx(elbo, abs=1e-12)
    assert values[0] < values[1] < values[2] < EVIDENCE


# --- Beta-Bernoulli: the exact posterior is a family of its own ------------------------------------------------------


class BetaFamily(AbstractDensity):
    """A density that is not reparameterised: every draw is scored."""

    a: float
    b: float

    def log_prob(self, value):
        return jax.scipy.stats.beta.logpdf(value["p"], self.a, self.b)

    def draw(self, key, *, pathwise=True, scored_by=None):
        value = {"p": jr.beta(key, self.a, self.b)}
        log_prob = (scored_by or self).log_prob(value)
        return Draw(value, log_prob, log_prob, jnp.zeros(()))


def beta_bernoulli(z, ones, zeros):
    p = z["p"]
    return jax.scipy.stats.beta.logpdf(p, 2.0, 3.0) + ones * jnp.log(p) + zeros * jnp.log1p(-p)


def beta_bernoulli_model():
    data = {"ones": 7.0, "zeros": 4.0}
    return build(LogDensity(beta_bernoulli, {"p": ()}, {"p": constraints.unit_interval}), data, "double").model


def test_weights_are_the_evidence_for_every_draw_at_the_exact_beta_posterior():
    evidence = special.betaln(9.0, 7.0) - special.betaln(2.0, 3.0)
    draws = jax.vmap(BetaFamily(9.0, 7.0).draw)(jr.split(jr.key(0), 1000))
    weights = log_weights(beta_bernoulli_model(), draws, None)
    np.testing.assert_allclose(weights, evidence, atol=1e-10)


def test_importance_weighted_on_beta_bernoulli_rises_towards_the_evidence():
    """4·10⁵ draws; the standard errors are below 0.002, and every comparison allows four: false alarm < 0.1 %."""
    evidence = special.betaln(9.0, 7.0) - special.betaln(2.0, 3.0)
    draws = jax.jit(jax.vmap(BetaFamily(2.0, 3.0).draw))(jr.split(jr.key(4), 400_000))
    weights = log_weights(beta_bernoulli_model(), draws, None)
    values = [float(ImportanceWeighted(k)(weights)) for k in (1, 2, 8, 32, 100)]
    assert (np.diff(values) > 0.01).all()
    assert values[-1] < evidence + 0.008
    assert values[-1] == pytest.approx(evidence, abs=0.02)


# --- the objects themselves ------------------------------------------------------------------------------------------


def test_groups_and_their_refusals():
    weights = jnp.log(jnp.array([1.0, 3.0, 2.0, 2.0]))
    assert float(ImportanceWeighted(2)(weights)) == pytest.approx(np.log(2.0))
    assert float(ImportanceWeighted(4)(weights)) == pytest.approx(np.log(2.0))
    assert float(ELBO()(weights)) == pytest.approx(np.log([1, 3, 2, 2]).mean())
    with pytest.raises(ValueError, match="4 draws do not make groups of 3"):
        ImportanceWeighted(3)(weights)
    with pytest.raises(ValueError, match="between 1 and 100000000, got 0"):
        ImportanceWeighted(0)


@pytest.mark.parametrize("name", BOUNDS)
def test_adding_a_constant_to_the_weights_adds_it_to_the_bound(name):
    weights = jr.normal(jr.key(1), (16,))
    assert float(BOUNDS[name](weights + 1000.0) - BOUNDS[name](weights)) == pytest.approx(1000.0, abs=1e-9)


def test_impossible_draws():
    weights = jnp.array([-jnp.inf, 0.0])
    assert float(ELBO()(weights)) == -np.inf
    assert float(ImportanceWeighted(2)(weights)) == pytest.approx(-np.log(2.0))


@pytest.mark.parametrize("name", BOUNDS)
def test_single_precision(name):
    with working("single"):
        assert BOUNDS[name](jnp.zeros(8)).dtype == jnp.float32
