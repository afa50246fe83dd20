"""The Rényi bound between the ELBO and L_K, the χ bound above the evidence, and the interval that they make."""

import itertools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import special, stats

import jensen as jn
from jensen._bounds import ELBO, ChiUpper, ImportanceWeighted, Renyi
from jensen._estimators import DoublyReparameterised, Pathwise
from jensen._families import FullRank
from jensen._math.precision import working
from jensen._model import build
from jensen._model.views import Affine, Unconstrained
from jensen._verdict.evidence import evidence
from jensen._verdict.importance import weigh

JOINT = np.array([0.03, 0.002, 0.11])
PROPOSAL = np.array([0.5, 0.3, 0.2])


@pytest.fixture(autouse=True)
def _double():
    with working("double"):
        yield


def enumerated(bound, num_draws):
    """E[bound] over every tuple of draws: exact."""
    states = np.array(list(itertools.product(range(3), repeat=num_draws)))
    weights = np.log(JOINT / PROPOSAL)[states]
    return float(jax.vmap(bound)(jnp.asarray(weights)) @ np.prod(PROPOSAL[states], axis=1))


def test_renyi_goes_from_the_importance_weighted_bound_to_the_elbo():
    values = [enumerated(Renyi(alpha, 4), 4) for alpha in (0.0, 0.25, 0.5, 0.75, 0.999)]
    assert values[0] == pytest.approx(enumerated(ImportanceWeighted(4), 4), abs=1e-12)
    assert (np.diff(values) < 0).all()
    assert values[-1] == pytest.approx(enumerated(ELBO(), 1), abs=2e-3)
    assert values[0] < np.log(JOINT.sum())


def test_the_chi_bound_lies_above_and_rises_with_its_order():
    weights = np.log(JOINT / PROPOSAL)
    draws = np.random.default_rng(0).choice(3, 4000, p=PROPOSAL)
    exact = [np.log(np.sum(PROPOSAL * np.exp(n * weights))) / n for n in (1.0, 1.5, 2.0, 3.0)]
    assert exact[0] == pytest.approx(np.log(JOINT.sum()))
    assert (np.diff(exact) > 0).all()
    for n, value in zip((1.0, 1.5, 2.0, 3.0), exact, strict=True):
        bound = ChiUpper(n)
        assert bound.estimate(weights[draws]) == pytest.approx(value, abs=0.05)
        assert bound.limit(weights[draws]) > bound.estimate(weights[draws])
    assert ChiUpper(2.0).limit(weights[draws], khat=0.3) == np.inf


def normal(y):
    import numpyro
    import numpyro.distributions as dist

    mu = numpyro.sample("mu", dist.Normal(jnp.zeros(2), 1).to_event(1))
    numpyro.sample("y", dist.Normal(mu, 1).to_event(1), obs=y)


@pytest.mark.parametrize("bound", [ImportanceWeighted(4), Renyi(0.5, 4)], ids=["importance weighted", "renyi"])
def test_doubly_reparameterised_gradients_agree_with_pathwise_ones(bound):
    """Equal means within 5 standard errors of 8 coordinates: a false alarm in 10⁻⁵ of keys (the key is fixed)."""
    target = build(normal, {"y": np.array([1.0, -0.5])}, "double")
    model = Unconstrained(model=target.model, bijection=Affine(jnp.zeros(2), jnp.ones(2)))
    q = jax.tree.map(jnp.asarray, FullRank.from_factor(np.array([0.2, 0.3]), np.array([[0.9, 0.0], [0.4, 0.6]])))
    keys = jr.split(jr.key(0), 4000)

    def gradients(estimator):
        grad = jax.grad(lambda q, key: estimator(bound, model, q, None, key))
        return [np.asarray(leaf).reshape(4000, -1) for leaf in jax.tree.leaves(jax.vmap(grad, (None, 0))(q, keys))]

    for plain, doubly in zip(gradients(Pathwise(8)), gradients(DoublyReparameterised(8)), strict=True):
        error = np.sqrt((plain.var(0) + doubly.var(0)) / 4000)
        assert (np.abs(plain.mean(0) - doubly.mean(0)) <= 5 * error + 1e-12).all()


def gaussian_pool(rng, size=4000):
    """A Gaussian posterior of known evidence, a q that is off in place and width, and its heavier relative."""
    dim, log_evidence = int(rng.integers(1, 6)), 10.0 * rng.normal()
    shift, scale = 0.3 * rng.normal(size=dim), np.exp(0.2 * rng.normal(size=dim))
    half, wide = size // 2, 1.5 * scale
    own = shift + scale * rng.normal(size=(half, dim))
    other = shift + wide * rng.normal(size=(half, dim))
    points = np.concatenate([own, other])
    log_joint = log_evidence + stats.norm.logpdf(points).sum(1)
    log_q = stats.norm.logpdf(points, shift, scale).sum(1)
    log_wide = stats.norm.logpdf(points, shift, wide).sum(1)
    return weigh(points, log_joint, log_q, np.logaddexp(log_q, log_wide) - np.log(2.0)), log_evidence


def discrete_pool(rng, size=4000):
    """A posterior over ten states, enumerated."""
    log_joint, log_q = 3.0 * rng.normal(size=10), np.log(rng.dirichlet(np.full(10, 3.0)))
    log_q = special.log_softmax(0.7 * log_joint + 0.3 * log_q)
    log_wide = special.log_softmax(0.5 * log_q)
    own = rng.choice(10, size // 2, p=np.exp(log_q))
    states = np.concatenate([own, rng.choice(10, size // 2, p=np.exp(log_wide))])
    proposal = np.logaddexp(log_q, log_wide) - np.log(2.0)
    pool = weigh(states[:, None] * 1.0, log_joint[states], log_q[states], proposal[states])
    return pool, special.logsumexp(log_joint)


def coverage(count, makers, planted=0.0):
    rng, held, finite = np.random.default_rng(7), 0, 0
    for i in range(count):
        pool, exact = makers[i % len(makers)](rng)
        low, high = evidence(pool).interval
        held += low <= exact + planted <= high
        finite += np.isfinite(high)
    return held / count, finite / count


def test_the_interval_holds_the_evidence_of_two_hundred_models():
    held, finite = coverage(200, [gaussian_pool, discrete_pool])
    assert held >= 0.95
    assert finite > 0.5  # and is not won by saying nothing
    assert coverage(20, [discrete_pool], planted=1.0)[0] < 0.5


def test_bad_orders():
    with pytest.raises(jn.OptionError, match=r"alpha must be in \[0, 1\)"):
        Renyi(1.5)
    with pytest.raises(jn.OptionError, match="order must be a finite number of at least 1"):
        ChiUpper(0.5)
