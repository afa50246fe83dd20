"""Probabilities of discrete latents: what q never visits is found, in the verdict and in the summary."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy.stats import norm

import jensen as jn
from jensen._model import build
from jensen._model.restricted import held_at
from jensen._modes.relabelling import labellings_of
from jensen._verdict.checks import states
from jensen._verdict.checks.states import alike
from jensen._verdict.states import Probabilities, Searched, exchanged, search


def gate(y):
    u, v = numpyro.sample("u", dist.Normal(1, 0.5)), numpyro.sample("v", dist.Bernoulli(0.4))
    numpyro.sample("y", dist.Normal(u * v, 0.05), obs=y)


Y = 0.07
ON, OFF = 0.4 * norm.pdf(Y, 1, np.hypot(0.5, 0.05)), 0.6 * norm.pdf(Y, 0, 0.05)
P = ON / (ON + OFF)
"""P(v = 1 | y), 0.031: a ratio of two normal densities."""


@pytest.fixture(
    scope="module",
    params=["cavi", "laplace", *(pytest.param(name, marks=pytest.mark.slow) for name in ("bbvi", "advi"))],
)
def gated(request):
    return jn.fit(gate, {"y": Y}, request.param)


@pytest.mark.filterwarnings("ignore::jensen.UntrustedWarning")
def test_a_rare_state_is_in_the_draws_or_the_fit_is_not_trusted(gated):
    verdict, table = gated.check().verdict, gated.summary()
    drawn = np.asarray(gated.sample(20000)["v"]).mean()
    assert verdict != "trusted"
    if verdict == "usable":
        assert drawn == pytest.approx(P, abs=0.01)
        assert table.loc["v=1", "mean"] == pytest.approx(P, abs=0.01)
    else:
        assert any("v=1" in reason and "0.031" in reason for reason in gated.check().reasons)
    assert table.loc["v=0", "mean"] + table.loc["v=1", "mean"] == pytest.approx(1.0)
    assert 0 <= table.loc["v=1", "mcse_mean"] < 0.01
    assert list(gated.summary(["v"]).index)[-2:] == ["v=0", "v=1"]


def test_the_search_in_every_state_is_the_closed_form(gated):
    known = gated.answer.probabilities(gated.pool, gated._pool_draws)
    found = search(gated.answer.program, known, 0)["v"]
    np.testing.assert_allclose(found.probability, [[1 - P, P]], atol=1e-3)
    assert found.total == pytest.approx(np.log(ON + OFF), abs=0.03)  # by 512 draws for each mode


def test_a_search_that_missed_modes_says_nothing_of_states(gated, monkeypatch):
    """It found half of the evidence that the weights have."""

    def half(total):
        wrong = Searched(np.array([[0.5, 0.5]]), np.zeros((1, 2)), total)
        monkeypatch.setattr(states, "search", lambda *_: {"v": wrong})
        report = gated.answer.judge(gated.pool, gated._pool_draws, 0)
        return [reason for reason in report.reasons if "should be about 0.5" in reason]

    low = gated.evidence().interval[0]
    assert half(low)
    assert not half(low - np.log(2))


def gates(y):
    with numpyro.plate("gate", 2):
        u, v = numpyro.sample("u", dist.Normal(1, 0.5)), numpyro.sample("v", dist.Bernoulli(0.4))
        numpyro.sample("y", dist.Normal(u * v, 0.05), obs=y)


@pytest.mark.filterwarnings("ignore::jensen.UntrustedWarning")
@pytest.mark.parametrize("method", ["auto", pytest.param("bbvi", marks=pytest.mark.slow)])
@pytest.mark.parametrize("y", [[0.06, 0.06], [0.07, 0.05]])
def test_what_is_promised_of_a_probability_is_not_widened_by_noise(method, y):
    """P(v = 1 | y) = 0.023 each where both are 0.06: 0.0127, as a mixture over the modes has it, is 0.0104 off."""
    y = np.array(y)
    on, off = 0.4 * norm.pdf(y, 1, np.hypot(0.5, 0.05)), 0.6 * norm.pdf(y, 0, 0.05)
    fit, right = jn.fit(gates, {"y": y}, method), on / (on + off)
    verdict, table = fit.check().verdict, fit.summary()
    got = [table.loc[f"v[{i}]=1", "mean"] for i in range(2)]
    assert verdict == "untrusted" or np.abs(got - right).max() < 0.01
    assert fit.evidence().interval[0] <= np.log(on + off).sum()


def three(y):
    with numpyro.plate("pairs", 2):
        z = numpyro.sample("z", dist.Categorical(jnp.array([0.5, 0.3, 0.2])))
    a = numpyro.sample("a", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Normal(a + z.sum(), 0.1), obs=y)


def test_densities_held_at_a_state_add_up_and_follow_the_joint():
    """Σ_k p(a, z_1 = k, x) = p(a, x), and each is Σ over the other entry by hand."""
    target = build(three, {"y": 2.0}, "double")
    points = np.array([[0.3], [-1.0]])
    held = np.stack([held_at(target, "z", 1, k).value(points) for k in range(3)])
    np.testing.assert_allclose(np.logaddexp.reduce(held), target.value(points), rtol=1e-12)
    prior = np.log([0.5, 0.3, 0.2])
    for a, value in zip(points[:, 0], held[2], strict=True):
        other = np.logaddexp.reduce([prior[j] + norm.logpdf(2.0, a + j + 2, 0.1) for j in range(3)])
        assert value == pytest.approx(norm.logpdf(a) + prior[2] + other, rel=1e-12)


def test_states_that_switch_only_together_are_found():
    """z = (1, 1) and (0, 2), (2, 0) need a near 0 and 0, (0, 0) a near 2: enumerated, a integrated in closed form."""
    y = 2.0
    prior = np.array([0.5, 0.3, 0.2])
    joint = prior[:, None] * prior * norm.pdf(y, np.add.outer(np.arange(3), np.arange(3)), np.hypot(1.0, 0.1))
    want = joint.sum(axis=0) / joint.sum()
    fit = jn.fit(three, {"y": y}, "laplace")
    known = fit.answer.probabilities(fit.pool, fit._pool_draws)
    found = search(fit.answer.program, known, 0)["z"]
    assert np.abs(found.probability - want).max() < 0.25 * want.min()


def test_what_a_renumbering_exchanges_is_compared_by_its_average():
    """A mixture's labels: half and half by the search, one labelling under q; a gate's rare state stays apart."""

    def pair(own, found):
        zero = np.zeros_like(own)
        known = Probabilities(np.arange(own.shape[1]), (len(own),), own, zero, own, zero)
        return alike(known, Searched(found, np.zeros_like(found)))

    labels = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    known, found = pair(labels, np.full((3, 2), 0.5))
    np.testing.assert_allclose(known.own, found.probability)
    gates = np.array([[1.0, 0.0], [1.0, 0.0]])
    for rare in (np.array([[0.97, 0.03], [0.9, 0.1]]), np.array([[0.96, 0.04], [0.96, 0.04]])):
        known, found = pair(gates, rare)
        np.testing.assert_allclose(found.probability, rare)
        np.testing.assert_allclose(known.own, gates)


def labelled(y):
    """`one` numbers the means, `two` a list of its own of as many values, `three` the means of rows."""
    with numpyro.plate("state", 3):
        mean = numpyro.sample("mean", dist.Normal(0, 2))
    one = numpyro.sample("one", dist.Categorical(jnp.full(3, 1 / 3)))
    two = numpyro.sample("two", dist.Categorical(jnp.full(3, 1 / 3)))
    with numpyro.plate("row", 2):
        three = numpyro.sample("three", dist.Categorical(jnp.full(3, 1 / 3)))
        numpyro.sample("y", dist.Normal(mean[three] + 0.2 * jnp.array([0.0, 1.0, 3.0])[two], 1.0), obs=y)
    numpyro.sample("x", dist.Normal(mean[one], 1.0), obs=0.4)


def test_states_that_renumberings_exchange_are_equally_probable():
    """Every p(one = k | x) is 1 / 3 by symmetry, p(two = k | x) is not: Gauss-Hermite quadrature over the means."""
    target = build(labelled, {"y": np.array([1.0, -0.5])}, "double")
    (found,) = labellings_of(target, np.random.default_rng(0).normal(size=(4, 3)))
    assert exchanged(target, found, np.random.default_rng(1).normal(size=(2, 3)), ["one", "two", "three"]) == {
        "one",
        "three",
    }
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    grid = 2.0 * np.stack(np.meshgrid(nodes, nodes, nodes), -1).reshape(-1, 3)
    prior = norm.logpdf(grid, 0, 2).sum(axis=1)
    mass = np.prod(np.meshgrid(weights, weights, weights), axis=0).reshape(-1)
    likely = mass * np.exp(target.value(grid) - prior)
    found = target.marginals(grid, likely)
    np.testing.assert_allclose(found["one"], np.full(3, 1 / 3), atol=1e-9)
    np.testing.assert_allclose(found["three"], np.full((2, 3), 1 / 3), atol=1e-9)
    assert np.ptp(found["two"]) > 0.03
