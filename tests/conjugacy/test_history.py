"""Every sweep is reported under its own number, with its own bound and the q that has it."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy.special import logsumexp

import jensen as jn
from jensen._conjugate.cavi import CAVI
from jensen._conjugate.coordinate import plated
from jensen._math.precision import working

X = np.array([-4.0, 0.5, 5.0])[np.arange(60) % 3] + np.random.default_rng(7).normal(size=60)


def mixture(x):
    with numpyro.plate("k", 3):
        mu = numpyro.sample("mu", dist.Normal(0, 3.0))
    with numpyro.plate("i", len(x)):
        c = numpyro.sample("c", dist.Categorical(jnp.ones(3) / 3))
        numpyro.sample("x", dist.Normal(mu[c], 1), obs=x)


def slow(x):
    """Two latents of which only the sum is well known: hundreds of sweeps, with longer steps."""
    a, b = numpyro.sample("a", dist.Normal(0, 1)), numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("row", len(x)):
        numpyro.sample("y", dist.Normal(a + b, 1.0), obs=x)


def hybrid(x):
    w, tau = numpyro.sample("w", dist.Normal(0, 1)), numpyro.sample("tau", dist.Gamma(2.0, 2.0))
    with numpyro.plate("k", 2):
        mu = numpyro.sample("mu", dist.Normal(0, 3.0))
    with numpyro.plate("row", len(x)):
        c = numpyro.sample("c", dist.Categorical(jnp.ones(2) / 2))
        numpyro.sample("y", dist.Normal(mu[c] + jnp.tanh(w), tau**-0.5), obs=x)


def by_hand(sweeps):
    """Means and bounds of the mixture's first sweeps from means -1, 0, 1."""
    m, s2, found = np.array([-1.0, 0.0, 1.0]), np.zeros(3), []
    for _ in range(sweeps):
        r = np.outer(X, m) - 0.5 * (m**2 + s2)
        r = np.exp(r - logsumexp(r, 1, keepdims=True))
        s2 = 1 / (1 / 9 + r.sum(0))
        m = s2 * (r.T @ X)
        rows = -np.log(3) - 0.5 * np.log(2 * np.pi) - 0.5 * ((X[:, None] - m) ** 2 + s2) - np.log(np.maximum(r, 1e-300))
        found.append((m, (r * rows).sum() + (0.5 - 0.5 * (m**2 + s2) / 9 + 0.5 * np.log(s2 / 9)).sum()))
    return found


def reports(method, model, data, seed=0):
    """(reports of the ascent, all reports, the outcome)."""
    target = method.prepare(model, data, "double")
    with working("double"):
        run, items = method.run(target, seed), []
        while True:
            try:
                items.append(next(run))
            except StopIteration as stop:
                return [item for item in items if item.phase == "ascent"], items, stop.value


def bound_of(item):
    """The exact bound of the q of a report."""
    with working("double"):
        solution = item.q() if callable(item.q) else item.q
        model, q = solution.target.model, solution.product()
        moments = {name: factor.mean_params() for name, factor in q.factors.items()}
        return float(model.expected_log_joint(moments) + q.entropy())


def check(ascent, some):
    """Numbers 1, 2, ...; no bound below the one before; the q of some reports has its bound."""
    bounds = np.array([item.bound for item in ascent])
    assert [item.step for item in ascent] == list(range(1, len(ascent) + 1))
    assert np.all(np.diff(bounds) > -1e-9 * np.abs(bounds[1:]))
    for i in some:
        assert bound_of(ascent[i]) == pytest.approx(ascent[i].bound, rel=1e-10)


def test_sweeps_computed_by_hand():
    init = {"mu": np.array([-1.0, 0, 1])}
    ascent, _, outcome = reports(jn.cavi(init=init), mixture, {"x": X})
    check(ascent, range(0, len(ascent), 3))
    assert f"after {len(ascent)} sweeps" in outcome.status
    for item, (means, bound) in zip(ascent, by_hand(5), strict=False):
        assert item.bound == pytest.approx(bound, abs=1e-9)
        np.testing.assert_allclose(item.q().product().means()["mu"], means, rtol=1e-9)
    fit = jn.fit(mixture, {"x": X}, jn.cavi(init=init), progress=False)
    assert [row["step"] for row in fit.history] == [item.step for item in ascent]
    assert [row["bound"] for row in fit.history] == [item.bound for item in ascent]


def test_after_restarts_the_sweeps_of_the_start_that_is_kept():
    ascent, items, _ = reports(jn.cavi(restarts=3), mixture, {"x": X})
    check(ascent, (0, 5, len(ascent) // 2, len(ascent) - 1))
    others = [item for item in items if item.phase == "restart"]
    assert len(others) == 2
    assert all(bound_of(item) == pytest.approx(item.bound, rel=1e-10) for item in others)
    assert max(item.bound for item in others) <= ascent[-1].bound + 1e-9


def test_longer_steps_are_between_sweeps():
    ascent, _, outcome = reports(jn.cavi(), slow, {"x": np.random.default_rng(0).normal(1.0, 1.0, 400)})
    assert "within longer steps" in outcome.status or len(ascent) < 400
    check(ascent, (0, 30, 55, 60, 61, 70, len(ascent) - 1))


@pytest.mark.parametrize("most", [1, 2, 13, 25])
def test_no_more_sweeps_than_are_allowed(most):
    ascent, _, outcome = reports(jn.cavi(max_sweeps=most, restarts=2), mixture, {"x": X})
    assert len(ascent) == most or outcome.converged
    assert f"after {len(ascent)} sweeps" in outcome.status


def saddle(x):
    """Two means whose start is the same: a saddle."""
    with numpyro.plate("k", 2):
        mu = numpyro.sample("mu", dist.Normal(0, 3.0))
    with numpyro.plate("i", len(x)):
        c = numpyro.sample("c", dist.Categorical(jnp.ones(2) / 2))
        numpyro.sample("x", dist.Normal(mu[c], 1), obs=x)


@pytest.mark.parametrize("streamed", [False, True])
def test_sweeps_after_a_saddle_go_on_counting(streamed, monkeypatch):
    if streamed:
        monkeypatch.setattr(plated, "INLINE", 10)
    ascent, _, outcome = reports(jn.cavi(init={"mu": np.zeros(2)}), saddle, {"x": X})
    assert outcome.certificate["saddle"]
    bounds = np.array([item.bound for item in ascent])
    jump = int(np.argmax(np.diff(bounds))) + 1
    some = [0, jump - 1, jump, jump + 1]
    check(ascent, () if streamed else some)
    for i in some if streamed else ():  # the factors of rows are optimal given the others, as before the next sweep's
        assert ascent[i].bound - 1e-6 < bound_of(ascent[i]) < ascent[i + 1].bound + 1e-6


def test_sweeps_with_a_gaussian_factor_are_counted_through(monkeypatch):
    ascent, _, outcome = reports(CAVI(restarts=2, max_sweeps=22), hybrid, {"x": X})
    check(ascent, ())
    assert len(ascent) == 22 or outcome.converged
    assert outcome.certificate["sweeps"] == len(ascent)
    first, last = ascent[0].q(), ascent[-1].q()
    assert not np.allclose(first.product().means()["tau"], last.product().means()["tau"])


def test_every_step_of_the_gradient_ascent_has_its_own_q():
    ascent, _, _ = reports(jn.naive(max_steps=12), mixture, {"x": X})
    assert [item.step for item in ascent] == list(range(len(ascent)))
    for item in ascent[::4]:
        assert bound_of(item) == pytest.approx(item.bound, rel=1e-10)


def test_exact_sweeps_after_batches_are_counted_through():
    ascent, items, _ = reports(jn.svi(batch_size=20), mixture, {"x": X})
    assert [item.step for item in ascent] == list(range(1, len(ascent) + 1))
    assert items[0].phase == "minibatch"
    for item in (ascent[0], ascent[-1]):
        assert bound_of(item) == pytest.approx(item.bound, rel=1e-8)


def test_steps_of_batches_have_the_q_whose_bound_is_estimated():
    """With all rows in one batch the estimate is the bound itself, up to what rows' factors are iterated to."""
    _, items, _ = reports(jn.svi(batch_size=len(X)), mixture, {"x": X})
    batches = [item for item in items if item.phase == "minibatch"]
    assert [item.step for item in batches] == list(range(1, len(batches) + 1))
    for item in batches[:3]:
        assert bound_of(item) == pytest.approx(item.bound, rel=1e-6)


def test_learned_parameters_are_those_of_the_sweep():
    """EM by hand: responsibilities at the parameters, then their weighted means."""

    def model(x):
        mu = numpyro.param("mu", jnp.array([-1.0, 0.0, 1.0]))
        with numpyro.plate("i", len(x)):
            c = numpyro.sample("c", dist.Categorical(jnp.ones(3) / 3))
            numpyro.sample("x", dist.Normal(mu[c], 1), obs=x)

    seen = []
    fit = jn.fit(model, {"x": X}, "cavi", progress=seen.append)
    assert [row["step"] for row in fit.history] == list(range(1, len(seen) + 1))
    mu = np.array([-1.0, 0.0, 1.0])
    for item in seen[:4]:
        logs = -0.5 * (X[:, None] - mu) ** 2
        r = np.exp(logs - logsumexp(logs, 1, keepdims=True))
        mu = (r.T @ X) / r.sum(0)
        np.testing.assert_allclose(item.q().estimates["mu"], mu, rtol=1e-9)
        expected = (r * (-np.log(3) - 0.5 * np.log(2 * np.pi) - 0.5 * (X[:, None] - mu) ** 2)).sum()
        assert item.bound == pytest.approx(expected - (r * np.log(np.maximum(r, 1e-300))).sum(), rel=1e-9)
