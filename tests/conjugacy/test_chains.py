"""Chains: scans and shifted slices against filters, smoothers and enumeration written by hand."""

import itertools

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.control_flow import scan
from scipy.special import digamma, logsumexp

from jensen._base.errors import ModelError
from jensen._conjugate.algebra import build_conjugate
from jensen._conjugate.cavi import CAVI
from jensen._families.exponential import DiscreteChain, GaussianChain

from .test_joint_blocks import forward_backward
from .zoo import ZOO


def close(found, expected):
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-9, atol=1e-10)


def kalman(y, A, Q, R, m):
    """(log evidence, smoothed means, smoothed covariances, smoothed covariances of neighbours) of states that start
    at m for certain."""
    D, evidence, filtered, predicted = len(m), 0.0, [], []
    P = np.zeros((D, D))
    for row in y:
        m, P = A @ m, A @ P @ A.T + Q
        predicted.append((m, P))
        S, r = P + R, row - m
        evidence += -0.5 * r @ np.linalg.solve(S, r) - 0.5 * np.linalg.slogdet(2 * np.pi * S)[1]
        gain = P @ np.linalg.inv(S)
        m, P = m + gain @ r, P - gain @ S @ gain.T
        filtered.append((m, P))
    means, covs, cross = [m], [P], []
    for (mf, Pf), (mp, Pp) in zip(filtered[-2::-1], predicted[:0:-1], strict=True):
        J = Pf @ A.T @ np.linalg.inv(Pp)
        cross.insert(0, J @ covs[0])
        means.insert(0, mf + J @ (means[0] - mp))
        covs.insert(0, Pf + J @ (covs[0] - Pp) @ J.T)
    return evidence, np.array(means), np.array(covs), np.array(cross).reshape(-1, D, D)


def test_state_space_is_the_kalman_smoother():
    data = ZOO["state_space"][1]
    fit = CAVI().fit_conjugate(*ZOO["state_space"])
    q = fit.q.factor("state")
    assert isinstance(q, GaussianChain)
    evidence, means, covs, cross = kalman(data["y"], data["A"], 0.5 * np.eye(2), 0.5 * np.eye(2), np.zeros(2))
    assert fit.elbo == pytest.approx(evidence, abs=1e-10)
    close(fit.means()["state"], means)
    close(fit.variances()["state"], np.diagonal(covs, axis1=1, axis2=2))
    close(q.mean_params()["cross"], cross + means[:-1, :, None] * means[1:, None])


def test_level_updates(swept):
    """States given the precisions, and the precisions from smoothed moments."""
    model, state = swept("kalman_level")
    y = ZOO["kalman_level"][1]["y"]
    f = {name: model.factor(name, state.naturals[name]) for name in model.blocks}
    q, r = float(f["q"].means()[0]), float(f["r"].means()[0])
    found = model.factor("level", model.message("level", state.moments))
    assert isinstance(found, GaussianChain)
    one = np.eye(1)
    _, means, covs, _ = kalman(y[:, None], one, one / q, one / r, np.zeros(1))
    close(found.means()[0], means[:, 0])
    close(found.variances()[0], covs[:, 0, 0])
    moments = f["level"].mean_params()
    z, zz, cross = (np.asarray(moments[k]) for k in ("z", "zz", "cross"))
    steps = zz[0] + np.sum(zz[1:] + zz[:-1] - 2 * cross)
    new = model.factor("q", model.message("q", state.moments))
    close(new.concentration, 2 + len(y) / 2)
    close(new.rate, 1 + 0.5 * steps)
    close(model.factor("r", model.message("r", state.moments)).rate, 1 + 0.5 * np.sum(y**2 - 2 * y * z + zz))


def test_shifted_slices_are_a_chain(swept):
    """level[1:] - level[:-1] gives the block tridiagonal factor, with the moments of the dense posterior."""
    model, state = swept("local_level")
    y, f = ZOO["local_level"][1]["y"], state.naturals
    q, r = (float(model.factor(n, f[n]).means()[0]) for n in ("q", "r"))
    found = model.factor("level", model.message("level", state.moments))
    assert isinstance(found, GaussianChain)
    steps = np.diff(np.eye(len(y)), axis=0)
    covariance = np.linalg.inv(np.eye(len(y)) * (1 / 25 + r) + q * steps.T @ steps)
    close(found.means()[0], r * covariance @ y)
    close(found.variances()[0], np.diag(covariance))


def test_vector_states_beside_each_other_in_a_plate():
    """Random walks of a vector, one for each row; time is an inner axis of the site."""

    def model(y):
        with numpyro.plate("row", y.shape[0]):
            z = numpyro.sample("z", dist.Normal(0, 2).expand(y.shape[1:]).to_event(2))
            numpyro.factor("walk", -0.5 * jnp.sum((z[:, 1:] - z[:, :-1] @ A.T) ** 2, (-1, -2)))
            numpyro.sample("y", dist.Normal(z, 1).to_event(2), obs=y)

    A = np.array([[0.8, 0.3], [-0.2, 0.9]])
    y = np.random.default_rng(0).normal(size=(3, 6, 2))
    fit = CAVI().fit_conjugate(model, {"y": y})
    q = fit.q.factor("z")
    assert isinstance(q, GaussianChain)
    link = np.kron(np.eye(6)[1:], np.eye(2)) - np.kron(np.eye(6)[:-1], A)
    covariance = np.linalg.inv(1.25 * np.eye(12) + link.T @ link)
    close(fit.means()["z"], (y.reshape(3, 12) @ covariance).reshape(3, 6, 2))
    close(fit.variances()["z"], np.broadcast_to(np.diag(covariance).reshape(6, 2), (3, 6, 2)))


@pytest.mark.slow
def test_discrete_chain_is_forward_backward(swept):
    model, state = swept("chain_gaussian")
    x, f = ZOO["chain_gaussian"][1]["x"], {n: model.factor(n, state.naturals[n]) for n in model.blocks}
    mu, s2 = np.asarray(f["mu"].loc), np.asarray(f["mu"].variance)
    tau, log_tau = f["tau"].mean_params()["power"], f["tau"].mean_params()["log"]
    a = np.asarray(f["rows"].concentration)
    log_a = digamma(a) - digamma(a.sum(-1, keepdims=True))
    emission = 0.5 * log_tau - 0.5 * tau * ((x[:, None] - mu) ** 2 + s2)
    log_z, single, pairs = forward_backward(log_a[0], log_a, emission)
    found = model.factor("s", model.message("s", state.moments))
    assert isinstance(found, DiscreteChain)
    close(found.log_normalizer(), log_z)
    close(found.mean_params()["indicator"], single)
    close(found.mean_params()["pair"], pairs)
    counts = np.asarray(f["s"].mean_params()["pair"]).sum(0)
    first = np.asarray(f["s"].mean_params()["indicator"])[0]
    rows = model.factor("rows", model.message("rows", state.moments))
    close(rows.concentration, 1 + counts + np.array([[1.0], [0.0]]) * first)


def test_emissions_outside_the_scan(swept):
    model, state = swept("chains_categorical")
    x, f = ZOO["chains_categorical"][1]["x"], {n: model.factor(n, state.naturals[n]) for n in model.blocks}
    logs = {}
    for name in ("start", "rows", "emit"):
        a = np.asarray(f[name].concentration)
        logs[name] = digamma(a) - digamma(a.sum(-1, keepdims=True))
    found = model.factor("s", model.message("s", state.moments)).mean_params()
    for n in range(3):
        _, single, pairs = forward_backward(logs["start"], logs["rows"], logs["emit"].T[x[:, n]])
        close(found["indicator"][:, n], single)
        close(found["pair"][:, n], pairs)
    emit = model.factor("emit", model.message("emit", state.moments)).concentration
    expected = np.ones((3, 4))
    np.add.at(expected.T, x, np.asarray(f["s"].mean_params()["indicator"]))
    close(emit, expected)


TABLE, EMIT = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.25, 0.25, 0.5]]), np.array([0.1, 0.5, 0.9])


@pytest.mark.parametrize("length", [1, 2, 5])
def test_evidence_by_enumeration(length):
    y = np.array([1, 0, 0, 1, 1])[:length]

    def model(y):
        def step(before, now):
            s = numpyro.sample("s", dist.Categorical(jnp.asarray(TABLE)[before]))
            numpyro.sample("y", dist.Bernoulli(jnp.asarray(EMIT)[s]), obs=now)
            return s, None

        scan(step, 1, y)

    logs = []
    for path in itertools.product(range(3), repeat=length):
        before, p = 1, 1.0
        for s, now in zip(path, y, strict=True):
            p *= TABLE[before, s] * (EMIT[s] if now else 1 - EMIT[s])
            before = s
        logs.append(np.log(p))
    fit = CAVI().fit_conjugate(model, {"y": y})
    assert fit.elbo == pytest.approx(logsumexp(logs), abs=1e-10)


def test_a_long_chain():
    """10,000 steps against the filter of a stationary process, in closed form."""
    T = 10_000
    y = np.random.default_rng(1).normal(size=T)

    def model(y):
        def step(before, now):
            z = numpyro.sample("z", dist.Normal(0.5 * before, 1))
            numpyro.sample("y", dist.Normal(z, 1), obs=now)
            return z, None

        scan(step, 0.0, y)

    fit = CAVI().fit_conjugate(model, {"y": y})
    one = np.eye(1)
    evidence, means, _, _ = kalman(y[:, None], 0.5 * one, one, one, np.zeros(1))
    assert fit.elbo == pytest.approx(evidence, rel=1e-11)
    close(fit.means()["z"], means[:, 0])
    assert sum(np.size(a) for a in fit.q.factor("z").natural.values()) < 4 * T


def increments(y):
    def step(level, now):
        e = numpyro.sample("e", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(level + e, 1), obs=now)
        return level + e, None

    scan(step, 0.0, y)


def second_order(y):
    def step(carry, now):
        one, two = carry
        z = numpyro.sample("z", dist.Normal(0.5 * one - 0.2 * two, 1))
        numpyro.sample("y", dist.Normal(z, 1), obs=now)
        return (z, one), None

    scan(step, (0.0, 0.0), y)


@pytest.mark.parametrize("model", [increments, second_order])
def test_longer_memories_are_refused(model):
    with pytest.raises(ModelError, match="more than the last state"):
        build_conjugate(model, {"y": np.zeros(4)})


def test_reverse_scans_are_refused():
    def model(y):
        def step(before, now):
            z = numpyro.sample("z", dist.Normal(before, 1))
            numpyro.sample("y", dist.Normal(z, 1), obs=now)
            return z, None

        scan(step, 0.0, y, reverse=True)

    with pytest.raises(ModelError, match="Flip the arrays"):
        build_conjugate(model, {"y": np.zeros(4)})


def test_the_carried_state_does_not_leave_the_scan():
    def model(y):
        def step(before, now):
            s = numpyro.sample("s", dist.Bernoulli(jnp.array([0.2, 0.7])[before]))
            return s, before

        _, before = scan(step, 0, y)
        with numpyro.plate("time_", len(y)):
            numpyro.sample("y", dist.Normal(before, 1), obs=y)

    with pytest.raises(ModelError, match="outside its scan"):
        build_conjugate(model, {"y": np.zeros(4)})


def test_a_scan_of_known_things_is_left_alone():
    """A scan without sample sites, before one with them."""

    def model(y):
        _, trend = scan(lambda total, now: (total + now, total + now), 0.0, jnp.ones(len(y)))

        def step(before, now):
            z = numpyro.sample("z", dist.Normal(before, 1))
            numpyro.sample("y", dist.Normal(z + now[0], 1), obs=now[1])
            return z, None

        scan(step, 0.0, (trend, y))

    y = np.array([1.3, 1.5, 4.0, 3.2])
    fit = CAVI().fit_conjugate(model, {"y": y})
    one = np.eye(1)
    evidence, means, _, _ = kalman((y - np.arange(1, 5))[:, None], one, one, one, np.zeros(1))
    assert fit.elbo == pytest.approx(evidence, abs=1e-10)
    close(fit.means()["z"], means[:, 0])
