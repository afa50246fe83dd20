"""Joint blocks: exact posteriors, exact evidences, and forward-backward."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import digamma, gammaln, logsumexp, multigammaln

from jensen._base.errors import ModelError, OptionError
from jensen._conjugate.algebra import build_conjugate
from jensen._conjugate.cavi import CAVI

from .zoo import ZOO


def test_normal_gamma_is_exact():
    x = ZOO["normal_gamma_joint_prior"][1]["x"]
    fit = CAVI(blocks=(("mu", "tau"),)).fit_conjugate(*ZOO["normal_gamma_joint_prior"])
    n, k0, m0, a0, b0 = len(x), 0.25, 0.5, 2.0, 1.5
    k = k0 + n
    m = (k0 * m0 + x.sum()) / k
    a = a0 + n / 2
    b = b0 + 0.5 * np.sum((x - x.mean()) ** 2) + 0.5 * k0 * n / k * (x.mean() - m0) ** 2
    evidence = gammaln(a) - gammaln(a0) + a0 * np.log(b0) - a * np.log(b) + 0.5 * np.log(k0 / k)
    evidence -= 0.5 * n * np.log(2 * np.pi)
    assert fit.elbo == pytest.approx(evidence, abs=1e-10)
    np.testing.assert_allclose(fit.means()["mu"], m, rtol=1e-10)
    np.testing.assert_allclose(fit.means()["tau"], a / b, rtol=1e-10)
    np.testing.assert_allclose(fit.variances()["mu"], b / (k * (a - 1)), rtol=1e-10)


def test_normal_gamma_refuses_an_independent_prior():
    with pytest.raises(ModelError, match="sqrt\\(tau\\)"):
        build_conjugate(*ZOO["normal_gamma"], blocks=(("mu", "tau"),))


def test_normal_wishart_is_exact():
    x = ZOO["normal_wishart_joint_prior"][1]["x"]
    fit = CAVI(blocks=(("mu", "precision"),)).fit_conjugate(*ZOO["normal_wishart_joint_prior"])
    n, d, k0, m0, nu0, mean = *x.shape, 0.3, 0.5 * np.ones(3), 5.0, x.mean(0)
    k, nu = k0 + n, nu0 + n
    rate = 2.0 * np.eye(3) + (x - mean).T @ (x - mean) + k0 * n / k * np.outer(mean - m0, mean - m0)
    evidence = -0.5 * n * d * np.log(np.pi) + multigammaln(nu / 2, d) - multigammaln(nu0 / 2, d)
    evidence += 0.5 * nu0 * d * np.log(2.0) - 0.5 * nu * np.linalg.slogdet(rate)[1] + 0.5 * d * np.log(k0 / k)
    assert fit.elbo == pytest.approx(evidence, abs=1e-10)
    np.testing.assert_allclose(fit.means()["mu"], (k0 * m0 + n * mean) / k, rtol=1e-10)
    np.testing.assert_allclose(fit.means()["precision"], nu * np.linalg.inv(rate), rtol=1e-10)
    np.testing.assert_allclose(fit.variances()["mu"], np.diag(rate) / (k * (nu - d - 1)), rtol=1e-10)


def test_normal_wishart_refuses_an_independent_prior():
    with pytest.raises(ModelError, match="precision_matrix=k \\* precision"):
        build_conjugate(*ZOO["normal_wishart"], blocks=(("mu", "precision"),))


def test_joint_gaussian_holds_the_correlation():
    """Intercept and slopes given the variance: the joint factor is the exact conditional."""
    data = ZOO["intercept_and_slope"][1]
    apart = CAVI().fit_conjugate(*ZOO["intercept_and_slope"])
    fit = CAVI(blocks=(("a", "b"),), tolerance=1e-13).fit_conjugate(*ZOO["intercept_and_slope"])
    assert fit.elbo > apart.elbo
    X = np.column_stack([np.ones(40), data["X"]])
    inverse = float(fit.q.factor("variance").mean_params()["power"])
    precision = np.eye(6) / 100 + inverse * X.T @ X
    np.testing.assert_allclose(fit.q.factor("a").covariance, np.linalg.inv(precision), rtol=1e-6)
    m = np.linalg.solve(precision, inverse * X.T @ data["y"])
    np.testing.assert_allclose(np.append(fit.means()["a"], fit.means()["b"]), m, rtol=1e-6)


def test_kalman_smoother_by_a_joint_gaussian():
    """The states of a linear-Gaussian model in one block: the bound is the exact evidence."""
    y = ZOO["linear_gaussian_state_space"][1]["y"]
    names = tuple(f"s{t}" for t in range(len(y)))
    fit = CAVI(blocks=(names,)).fit_conjugate(*ZOO["linear_gaussian_state_space"])
    A, m, P, evidence = np.array([[0.9, 0.2], [0.0, 0.8]]), np.zeros(2), np.eye(2), 0.0
    for t, row in enumerate(y):
        if t:
            m, P = A @ m, A @ P @ A.T + 0.5 * np.eye(2)
        S = P + 0.5 * np.eye(2)
        r = row - m
        evidence += -0.5 * r @ np.linalg.solve(S, r) - 0.5 * np.linalg.slogdet(2 * np.pi * S)[1]
        gain = P @ np.linalg.inv(S)
        m, P = m + gain @ r, P - gain @ S @ gain.T
    assert fit.elbo == pytest.approx(evidence, abs=1e-10)
    np.testing.assert_allclose(fit.means()[names[-1]], m, rtol=1e-9)


def forward_backward(start, transition, emission):
    """log Z, singleton and pairwise marginals of a chain of log potentials."""
    T, K = emission.shape
    forward, backward = [start + emission[0]], [np.zeros(K)]
    for t in range(1, T):
        forward.append(logsumexp(forward[-1][:, None] + transition, 0) + emission[t])
    for t in range(T - 1, 0, -1):
        backward.insert(0, logsumexp(transition + emission[t] + backward[0], 1))
    log_z = logsumexp(forward[-1])
    single = np.exp(np.array(forward) + np.array(backward) - log_z)
    pairs = [np.exp(forward[t][:, None] + transition + emission[t + 1] + backward[t + 1] - log_z) for t in range(T - 1)]
    return log_z, single, np.array(pairs)


def test_chain_is_forward_backward():
    names = tuple(f"s{t}" for t in range(6))
    model = build_conjugate(*ZOO["hmm_gaussian"], blocks=(names,))
    fit = CAVI(blocks=(names,), tolerance=1e-13).fit_conjugate(*ZOO["hmm_gaussian"])
    x = ZOO["hmm_gaussian"][1]["x"]
    mu, s2 = np.asarray(fit.q.factor("mu").loc), np.asarray(fit.q.factor("mu").variance)
    a = np.asarray(fit.q.factor("rows").concentration)
    log_a = digamma(a) - digamma(a.sum(-1, keepdims=True))
    moments = {name: factor.mean_params() for name, factor in fit.q.factors.items()}
    joint = model.factor("+".join(names), model.message("+".join(names), moments))
    emission = x[:, None] * mu - 0.5 * (mu**2 + s2)
    _, single, pairs = forward_backward(np.zeros(2), log_a, emission)
    np.testing.assert_allclose(np.stack(joint.probs()), single, atol=1e-10)
    found = joint.mean_params()
    np.testing.assert_allclose(np.stack([found[f"{t},{t + 1}"] for t in range(5)]), pairs, atol=1e-10)
    assert fit.elbo > CAVI().fit_conjugate(*ZOO["hmm_gaussian"]).elbo


def test_joint_discrete_factor_by_enumeration():
    from jensen._families.exponential import DiscreteJoint

    rng = np.random.default_rng(0)
    cliques = (("0,1", (0, 1)), ("1,2", (1, 2)), ("0,3", (0, 3)), ("2", (2,)))
    sizes = (2, 3, 2, 2)
    natural = {n: jnp.asarray(rng.normal(size=(2, *(sizes[i] for i in c)))) for n, c in cliques}
    q = DiscreteJoint(natural, cliques, tuple(np.arange(k) for k in sizes))
    table = np.zeros((2, *sizes))
    for z in itertools.product(*map(range, sizes)):
        for name, sites in cliques:
            table[(slice(None), *z)] += np.asarray(natural[name])[(slice(None), *(z[i] for i in sites))]
    np.testing.assert_allclose(q.log_normalizer(), logsumexp(table.reshape(2, -1), 1), rtol=1e-12)
    p = np.exp(table - logsumexp(table.reshape(2, -1), 1)[:, None, None, None, None])
    np.testing.assert_allclose(q.mean_params()["1,2"], p.sum((1, 4)), atol=1e-12)
    np.testing.assert_allclose(q.probs()[3], p.sum((1, 2, 3)), atol=1e-12)
    assert float(q.entropy()) == pytest.approx(-np.sum(p * np.log(p)), abs=1e-10)
    values = jax.vmap(q.draw)(jax.random.split(jax.random.key(1), 40_000))
    seen = np.zeros((2, *sizes))
    for row in (0, 1):
        np.add.at(seen[row], tuple(np.asarray(v)[:, row] for v in values), 1 / 40_000)
    assert np.abs(seen - p).max() < 5 * np.sqrt(p.max() / 40_000)
    one = tuple(v[0] for v in values)
    expected = sum(np.log(p[(row, *(int(v[row]) for v in one))]) for row in (0, 1))
    assert float(q.log_prob(*one)) == pytest.approx(expected, abs=1e-10)


def test_two_discrete_sites_jointly_raise_the_bound():
    apart = CAVI().fit_conjugate(*ZOO["two_discrete_sites"])
    together = CAVI(blocks=(("first", "second"),)).fit_conjugate(*ZOO["two_discrete_sites"])
    assert together.elbo > apart.elbo
    assert set(together.sample(3)) == {"a", "b", "first", "second"}


@pytest.mark.parametrize(
    ("name", "blocks", "words"),
    [
        ("normal_gamma", (("mu", "tow"),), "no latent site"),
        ("normal_gamma", (("mu",),), "single site"),
        ("hierarchical", (("mu", "b"), ("b", "mu")), "more than one block"),
    ],
)
def test_wrong_blocks_are_named(name, blocks, words):
    with pytest.raises(OptionError, match=words):
        build_conjugate(*ZOO[name], blocks=blocks)


def test_no_joint_family_is_named():
    with pytest.raises(ModelError, match="no joint family"):
        build_conjugate(*ZOO["lda_tokens"], blocks=(("phi", "theta"),))
