"""Variances on the hierarchical normal of METHODS 1.3 in miniature, and a biased estimator that the table shows."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import jensen as jn
from jensen._ascent import moves
from jensen._blackbox import recipes
from jensen._blackbox.recipes import choose, chosen_estimator
from jensen._blackbox.start import starting_product
from jensen._bounds import ELBO
from jensen._core import AbstractEstimator
from jensen._estimators import Blanket, Mixed, Regressed, Reparameterised, ScoreFunction
from jensen._families import native
from jensen._math.precision import working
from jensen._math.programs import Program
from jensen._model.native import NativeTarget, native_target

N = 100
X = np.random.default_rng(0).normal(3.0, np.sqrt(2.0), size=N)


def hierarchical(x):
    theta = numpyro.sample("theta", dist.Normal(0, 10))
    with numpyro.plate("row", len(x)):
        z = numpyro.sample("z", dist.Normal(theta, 1))
        numpyro.sample("x", dist.Normal(z, 1), obs=x)


def optimum():
    """The mean-field optimum: means of the posterior, variances from the diagonal of its precision."""
    precision = np.zeros((N + 1, N + 1))
    precision[0, 0] = 0.01 + N
    precision[np.arange(1, N + 1), np.arange(1, N + 1)] = 2.0
    precision[0, 1:] = precision[1:, 0] = -1.0
    mean = np.linalg.solve(precision, np.concatenate([[0.0], X]))
    scales = -0.5 * np.log(np.diag(precision))
    return native.Product(
        {
            "theta": native.Normal(jnp.asarray(mean[0]), jnp.asarray(scales[0])),
            "z": native.Normal(jnp.asarray(mean[1:]), jnp.asarray(scales[1:])),
        }
    )


@pytest.fixture(scope="module")
def measured():
    """96 draws a gradient, 200 gradients: a variance is known to about 10 %."""
    with working("double"):
        q, target = optimum(), native_target(hierarchical, {"x": X}, "double")
        links = target.links({name: factor.rows for name, factor in q.factors.items()})
        estimators = {
            "score": ScoreFunction(96),
            "blanket": ScoreFunction(96, Blanket(links)),
            "regression": Mixed({"theta": Regressed(Blanket(links)), "z": Regressed(Blanket(links))}, 96),
            "default": chosen_estimator(_without_gradients(target), q, links, 96, jr.key(3)),
            "biased": _Halved(ScoreFunction(96, Blanket(links))),
        }
        return jn.gradient_variance(hierarchical, {"x": X}, q, estimators, num_gradients=200)


class _Halved(AbstractEstimator):
    """A gradient that is shrunk, as in-sample coefficients shrink it."""

    linear_only: ClassVar[bool] = False
    inner: ScoreFunction
    num_draws: int = 96

    def __call__(self, bound, model, q, batch, key):
        return 0.5 * self.inner(bound, model, q, batch, key) + 2.0 * jnp.sum(q.factors["theta"].loc)


def _without_gradients(target):
    """The same model to an estimator that may only score."""
    return NativeTarget(target.model, target.structure, target.precision, differentiable=False)


@pytest.mark.slow
def test_the_default_is_the_best_for_each_parameter(measured):
    """And far below the blanket with a baseline for the global one, whose omitted terms cancel what is kept."""
    variance = measured.table["variance"]
    for factor in ("theta", "z"):
        best = min(variance[factor, name] for name in ("score", "blanket", "regression"))
        assert variance[factor, "default"] < 1.1 * best
    assert variance["theta", "blanket"] > 20 * variance["theta", "default"]


def test_regression_finds_the_omitted_terms_by_itself(measured):
    variance = measured.table["variance"]
    assert variance["theta", "blanket"] > 8 * variance["theta", "regression"]
    assert variance["z", "score"] > 8 * variance["z", "regression"]


def few_rows(shift, wider):
    """Ten of the rows, θ displaced."""
    q = optimum()
    theta, z = q.factors["theta"], q.factors["z"]
    return native.Product(
        {
            "theta": native.Normal(theta.loc + shift, theta.log_scale + wider),
            "z": native.Normal(z.loc[:10], z.log_scale[:10]),
        }
    )


def test_scores_explain_the_gradient_of_a_normal_in_a_quadratic():
    """Far from the optimum, where the path derivative alone is noisy, nothing of its variance is left."""
    with working("double"):
        q, target = few_rows(1.0, 0.7), native_target(hierarchical, {"x": X[:10]}, "double")
        found = {}
        for controls in (False, True):
            recipe = Reparameterised(stick=True, controls=controls)
            estimator = Mixed({"theta": recipe, "z": recipe}, 16)
            gradient = Program(
                jax.vmap(jax.grad(lambda q, k, e=estimator: e(ELBO(), target.model, q, None, k)), (None, 0))
            )
            found[controls] = np.asarray(gradient(q, jr.split(jr.key(0), 200)).factors["theta"].log_scale)
        assert found[True].var() < 0.2 * found[False].var()
        gap = found[True].mean() - found[False].mean()
        assert abs(gap) < 4 * np.sqrt((found[True].var() + found[False].var()) / 200)


@pytest.mark.slow
def test_the_choice_weighs_variance_and_work():
    """Operations are counted, so that a seed chooses the same on every machine."""
    with working("double"):
        q, target = few_rows(0.0, 0.0), native_target(hierarchical, {"x": X[:10]}, "double")
        links = target.links({name: factor.rows for name, factor in q.factors.items()})
        chosen = choose(target, q, links, 8, jr.key(0))
        assert str(chosen) == str(choose(target, q, links, 8, jr.key(0)))
        by_factor = {choice.factor: choice for choice in chosen.choices}
        assert by_factor["z"].chosen.startswith("path derivative")
        # Rows and mean are conjugate given each other: nothing is left without each other's noise, which was measured.
        assert by_factor["theta"].measured[f"path derivative, controls, {recipes.QUIETED}"] < 1e-6
        assert all(value >= 1.0 for choice in chosen.choices for value in choice.weighed.values())
        assert chosen.num_draws == chosen.estimator().num_draws


def test_a_short_fit_takes_the_quietest_in_theory():
    """Nothing is measured until the steps have cost what measuring does; then another estimator may take over."""
    with working("double"):
        q, target = few_rows(0.0, 0.0), native_target(hierarchical, {"x": X[:10]}, "double")
        links = target.links({name: factor.rows for name, factor in q.factors.items()})
        first = recipes.presumed(target, q, links, 8)
        assert first.open
        assert not first.unsure
        assert "without measuring" in str(first)
        assert {c.chosen for c in first.choices} == {f"path derivative, controls, {recipes.QUIETED}"}
        plain = Mixed({name: Reparameterised(stick=True) for name in q.factors}, 4)
        later = Mixed({name: Reparameterised(stick=True) for name in q.factors}, 5)
        seen = []

        def taken(q):
            seen.append(q)
            return later

        steps = moves.Chunks(target, plain, ELBO(), later=taken, worth=np.inf)
        q, state, *_ = steps(q, 0.1, moves.fresh(q), jr.key(0), 3)
        assert steps.estimator is plain
        steps.worth = 1.0  # what is left: less than three more steps
        for _ in range(2):
            _, _, _, values, fine = steps(q, 0.1, state, jr.key(1), 3)
        assert steps.estimator is later
        assert len(seen) == 1
        assert fine.all()
        assert np.isfinite(values).all()


@pytest.mark.parametrize("alone", [True, False])
def test_scores_with_the_noise_of_others_are_measured_first(alone):
    """A count whose neighbour's statistics are known has a gradient without its noise; alone it has only scores."""

    def counts(y):
        rate = 0.0 if alone else numpyro.sample("rate", dist.Normal(0.0, 1.0))
        z = numpyro.sample("z", dist.Poisson(jnp.exp(rate)))
        numpyro.sample("y", dist.Normal(z, 0.5), obs=y)

    with working("double"):
        target = native_target(counts, {"y": 2.0}, "double")
        q = starting_product(target, 0, {})
        links = target.links({name: factor.rows for name, factor in q.factors.items()})
        assert recipes.presumed(target, q, links, 8).unsure == alone


@pytest.mark.parametrize("quiet", ["path derivative", "score over the Markov blanket"])
def test_a_noisy_factor_does_not_choose_for_the_others(quiet):
    """θ is noisy whatever it takes; z still takes what is least for itself, in the place of what comes first."""
    with working("double"):
        q, target = few_rows(0.0, 0.0), native_target(hierarchical, {"x": X[:10]}, "double")
        links = target.links({name: factor.rows for name, factor in q.factors.items()})
        options = {name: recipes.candidates(name, q, links, True) for name in q.factors}
        variance = {
            "theta": dict.fromkeys(options["theta"], 1e6),
            "z": {label: 1.0 if label == quiet else 15.0 for label in options["z"]},
        }
        plan, weighed = recipes.settled(options, variance, target, q, 8)
    assert plan["z"] == quiet
    assert weighed["z"][quiet] == 1.0 == weighed["theta"][plan["theta"]]
    # What is noisier than any work can make up for is not weighed.
    assert min((weighed["z"][label] for label in weighed["z"] if label != quiet), default=np.inf) > 2.0


def test_a_bias_shows(measured):
    z = measured.table["z"]
    assert z["theta", "biased"] > 6
    assert max(z[f, e] for f in ("theta", "z") for e in ("score", "blanket", "regression", "default")) < 5


def test_it_prints_ranks_and_plots(measured):
    assert "variance" in str(measured)
    assert set(measured.best()) == {"theta", "z"}
    figure = measured.plot()
    assert figure.axes[0].get_xscale() == "log"
    plt.close(figure)


@pytest.mark.slow
def test_the_estimators_compared_by_default_agree():
    """One normal given one value: every estimator there is, none further from the rest than chance allows."""

    def normal(x):
        z = numpyro.sample("z", dist.Normal(0.0, 1.0))
        numpyro.sample("x", dist.Normal(z, 1.0), obs=x)

    with working("double"):
        q = native.Product({"z": native.Normal(jnp.asarray(0.3), jnp.asarray(-0.2))})
        found = jn.gradient_variance(normal, {"x": 0.8}, q, num_gradients=100)
    names = set(found.table.index.get_level_values("estimator"))
    assert {"default", "score, leave-one-out", "regression", "pathwise", "path derivative"} <= names
    assert found.table["z"].max() < 5
    assert found.table["variance"]["z", "default"] <= found.table["variance"]["z", "score, leave-one-out"]
