"""Stochastic ascent: what converged means where gradients are huge, steps fail, or numbers are too coarse."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jensen._ascent import stochastic
from jensen._ascent.rules import in_running_units
from jensen._base.typing import leaf
from jensen._bounds import ELBO
from jensen._estimators import StickingTheLanding
from jensen._families import FullRank, LowRank, MeanField
from jensen._gaussian.family_comparison import Measured, measure
from jensen._model import LogDensity, build
from tests.runs import ended

A = np.array([1.0, 4.0])
"""log p = a u - e^u, whose best N(m, s²) has s² = 1 / a and m = log a - s² / 2."""


@pytest.fixture(scope="module")
def target():
    return build(LogDensity(lambda z: jnp.sum(A * z["u"] - jnp.exp(z["u"])), {"u": 2}), None, "double")


@pytest.mark.parametrize("family", ["mean_field", "low_rank"])
@pytest.mark.parametrize("sd", [1.0, 40.0])
def test_one_huge_gradient_does_not_hold_it_still(target, family, sd):
    """Draws at 100 have gradients of 1e43: a second moment that saw one of them would forget it in 1e5 steps."""
    start = MeanField(leaf(np.zeros(2)), leaf(np.full(2, np.log(sd))))
    start = start if family == "mean_field" else LowRank.around(start, 1, 0)
    fit = ended(stochastic.ascend(target, start, ELBO(), StickingTheLanding(8), 0))
    assert fit.converged
    np.testing.assert_allclose(fit.q.scales(), A**-0.5, rtol=0.06)
    np.testing.assert_allclose(fit.q.loc, np.log(A) - 0.5 / A, atol=0.06)


def test_it_has_not_converged_where_no_step_could_be_taken():
    """A density without finite gradients: q stays where it was, and its averages agree perfectly."""
    broken = build(LogDensity(lambda z: -jnp.sum(jnp.sqrt(jnp.abs(z["u"] * 0.0))), {"u": 2}), None, "double")
    start = MeanField(leaf(np.zeros(2)), leaf(np.zeros(2)))
    fit = ended(stochastic.ascend(broken, start, ELBO(), StickingTheLanding(8), 0, chunk=20, max_chunks=8))
    assert not fit.converged
    assert fit.rejected == 160


def test_a_start_at_the_optimum_with_no_gradient_is_converged():
    normal = build(LogDensity(lambda z: -0.5 * jnp.sum(z["u"] ** 2), {"u": 2}), None, "double")
    start = MeanField(leaf(np.zeros(2)), leaf(np.zeros(2)))
    fit = ended(stochastic.ascend(normal, start, ELBO(), StickingTheLanding(8), 0, chunk=20))
    assert fit.converged
    np.testing.assert_allclose(fit.q.scales(), 1.0, rtol=1e-6)


def test_units_follow_gradients_that_fall_by_many_orders_and_cut_single_large_ones():
    rule = in_running_units()
    state = rule.init(jnp.zeros(3))
    step = jax.jit(rule.update)
    lengths = []
    for size in [0.0, 1e30, *[1e2] * 500, 1e20, *[1e2] * 40]:
        out, state = step(size * jnp.array([0.6, 0.0, 0.8]), state)
        lengths.append(float(jnp.linalg.norm(out)))
    lengths = np.array(lengths)
    assert lengths[0] == 0.0
    assert lengths[1] == pytest.approx(1.0)
    assert lengths[110] == pytest.approx(1.0, abs=0.05)
    assert lengths[502] == pytest.approx(np.exp(3.0), rel=1e-4)
    assert lengths[503:].min() > 0.7
    assert isinstance(rule, optax.GradientTransformation)


def test_a_gaussian_narrower_than_the_spacing_of_numbers_has_no_bound():
    """Effects with a scale of 1e-20 about a mean of 1: their differences round to 0 and nothing holds the scale up."""

    def log_density(z):
        scale, mean, effects = z["u"][0], z["u"][1], z["u"][2:]
        prior = jnp.sum(-0.5 * ((effects - mean) * jnp.exp(-scale)) ** 2 - scale)
        return prior - 0.5 * (mean - 1.0) ** 2 + scale - jnp.exp(scale)

    target = build(LogDensity(log_density, {"u": 8}), None, "double")

    def at(log_scale):
        spread = np.full(8, log_scale - 2.0)
        spread[:2] = -3.0, log_scale - 2.0
        return measure(target, "", MeanField(leaf(np.r_[log_scale, np.ones(7)]), leaf(spread)), 0)

    assert np.isfinite(at(-3.0).bound)
    assert at(-46.0).bound == -np.inf
    assert not at(-46.0).beats(at(-3.0))


def test_wild_weights_far_above_what_steady_ones_see_do_not_win():
    q = FullRank.from_factor(np.zeros(1), np.eye(1))
    steady = Measured("", q, -708.0, 0.02, 0.8, spread=1.0)
    assert not Measured("", q, 10278.0, 300.0, np.inf, spread=9000.0).beats(steady)
    assert Measured("", q, -707.0, 0.2, 5.0, spread=9.0).beats(steady)
    assert Measured("another mode", q, -600.0, 0.02, 0.5, spread=1.0).beats(steady)
    assert Measured("", q, -500.0, 0.3, 9.0, spread=9.0).beats(Measured("", q, -600.0, 1.0, 5.0, spread=30.0))
