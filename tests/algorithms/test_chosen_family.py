"""Families by name and by block, and what a mixture misses."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import jensen as jn
from jensen._families import FullRank, MeanField, Mixture, StudentT
from jensen._gaussian import mode_coverage
from jensen._gaussian.answer import GaussianAnswer
from jensen._gaussian.chosen_family import dependence_graph, start_of_blocks
from jensen._gaussian.flexible_answer import FlexibleAnswer
from jensen._math.precision import working
from jensen._model import build
from jensen._modes.climbs import climb, survey
from jensen._verdict.packing import packed


def arrow(precision, loc):
    """A Gaussian posterior: five effects that meet in one hyperparameter."""

    def log_p(z):
        u = jnp.concatenate([z["effect"], z["top"][None]]) - loc
        return -0.5 * u @ jnp.asarray(precision) @ u

    return jn.LogDensity(log_p, {"effect": 5, "top": ()})


@pytest.fixture(scope="module")
def on_a_graph():
    precision = 2.0 * np.eye(6)
    precision[:5, 5] = precision[5, :5] = [0.6, -0.5, 0.4, 0.7, -0.3]
    loc = np.arange(6.0)
    return jn.fit(arrow(precision, loc), None, jn.advi(family="structured")), np.linalg.inv(precision), loc


def test_a_structured_gaussian_finds_the_arrow(on_a_graph):
    """One parent each instead of fifteen correlations, and exact."""
    fit, covariance, loc = on_a_graph
    assert fit.q.weights.shape == (6, 1)
    sd = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(fit.q.loc, loc, atol=0.03)
    np.testing.assert_allclose(fit.q.covariance() / np.outer(sd, sd), covariance / np.outer(sd, sd), atol=0.05)
    log_evidence = 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]
    assert fit.elbo.value == pytest.approx(log_evidence, abs=0.01)


def test_a_structured_gaussian_comes_back_from_its_file(on_a_graph):
    q = on_a_graph[0].q
    arrays = {f"Structured/{name}": np.asarray(value) for name, value in vars(q).items()}
    again = GaussianAnswer.restored(arrays, None)
    assert again.parents == q.parents
    np.testing.assert_array_equal(again.covariance(), q.covariance())


def schools(sigma, y):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", 4):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


@pytest.fixture(scope="module")
def target():
    return build(schools, {"sigma": np.ones(4), "y": np.array([1.0, -1.0, 2.0, 0.5])}, "double")


def test_the_graph_of_a_hierarchical_model_is_an_arrow(target):
    graph = dependence_graph(target, MeanField(np.zeros(6), np.full(6, -1.0)), 0)
    assert not graph[2:, 2:].any()
    assert graph[:2, 2:].all()


def test_blocks_start_at_their_marginals_and_come_back(target):
    rng = np.random.default_rng(0)
    begin = FullRank.from_factor(rng.normal(size=6), np.tril(rng.normal(size=(6, 6))) + 3 * np.eye(6))
    family = jn.advi(family={("mu", "theta"): "full_rank", "tau": "student_t"}).family
    with working("double"):
        q = start_of_blocks(family, begin, target.structure, 0)
        partly = start_of_blocks(jn.advi(family={"mu": "full_rank"}).family, begin, target.structure, 0)
    assert q.coordinates == ((0, 2, 3, 4, 5), (1,))
    keep = [0, 2, 3, 4, 5]
    np.testing.assert_allclose(q.parts[0].covariance(), begin.covariance()[np.ix_(keep, keep)], rtol=1e-10)
    assert isinstance(q.parts[1], StudentT)
    assert partly.coordinates == ((0,), (1, 2, 3, 4, 5))
    np.testing.assert_allclose(partly.parts[1].scales(), begin.scales()[1:], rtol=1e-12)
    with working("double"):
        again = FlexibleAnswer.restored(packed(q, "family"), None)
        point = jnp.asarray(rng.normal(size=6))
        assert float(again.log_prob(point)) == float(q.log_prob(point))


def test_heavy_tails_are_met_by_a_student():
    """The best Gaussian is 0.1 nats short of a t with five degrees of freedom in two dimensions."""

    def log_p(z):
        square = jnp.sum(z["u"] ** 2)
        return -3.5 * jnp.log1p(square / 5.0) - jnp.log(2 * jnp.pi)

    fit = jn.fit(jn.LogDensity(log_p, {"u": 2}), None, jn.advi(family="student_t", num_starts=2))
    assert abs(fit.elbo.value) < 0.01 + 3 * fit.elbo.se
    assert 2.0 + np.exp(fit.q.log_excess) == pytest.approx(5.0, rel=0.3)


BAD = {
    "unknown": ("structurd", "structured"),
    "unknown in a block": ({"mu": "fullrank"}, "full_rank"),
    "twice": ({"mu": "flow", ("mu", "tau"): "full_rank"}, "two blocks"),
    "a mixture in a block": ({"mu": "mixture"}, "no family 'mixture'"),
    "of no kind": (3, "mapping of sites"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_family_that_does_not_exist_is_refused(case):
    family, message = BAD[case]
    with pytest.raises(jn.OptionError, match=message):
        jn.advi(family=family)


def test_a_block_of_a_site_that_does_not_exist_is_refused(target):
    begin = FullRank.from_factor(np.zeros(6), np.eye(6))
    with pytest.raises(jn.OptionError, match="no latent site 'nu'"):
        start_of_blocks((((("nu",)), "flow"),), begin, target.structure, 0)


# ---- modes that a mixture misses -----------------------------------------------------------------------------------

CENTRES = np.array([[0.0, 0.0], [6.0, 5.0], [-6.0, 5.0], [5.0, -6.0], [-5.0, -6.0]])


def five_modes(z):
    return jax.nn.logsumexp(-0.5 * jnp.sum((z["u"] - CENTRES) ** 2, axis=1) / 0.5)


def surveyed(log_p, dim):
    target = build(jn.LogDensity(log_p, {"u": dim}), None, "double")
    loop = climb(target, 0, 4)
    while True:
        try:
            next(loop)
        except StopIteration as stop:
            return target, survey(target, stop.value, 2)


def test_further_climbs_find_the_modes_and_what_q_misses_is_measured():
    target, found = surveyed(five_modes, 2)
    modes, unseen = mode_coverage.all_modes(target, found, 0)
    assert len(modes) == 5
    assert unseen < 0.15

    def mixture(count):
        parts = [FullRank.from_factor(c, np.sqrt(0.5) * np.eye(2)) for c in CENTRES[:count]]
        with working("double"):
            return jax.tree.map(jnp.asarray, Mixture.of(parts))

    assert mode_coverage.uncovered(target, mixture(5), modes, 0)["share_elsewhere"] == 0.0
    missed = mode_coverage.uncovered(target, mixture(3), modes, 0)
    assert missed["share_elsewhere"] == pytest.approx(0.4, abs=0.02)
    assert missed["variance_elsewhere"] > 0.1


def test_modes_without_end_are_said_to_be_unknown():
    target, found = surveyed(lambda z: 4.0 * jnp.cos(2.0 * z["u"]).sum() - 0.5 * jnp.sum((z["u"] / 60.0) ** 2), 2)
    _, unseen = mode_coverage.all_modes(target, found, 0)
    assert unseen > 0.15
