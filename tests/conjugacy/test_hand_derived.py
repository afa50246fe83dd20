"""Every update against one derived by hand, in NumPy, at a q that is not a fixed point; agreement to 1e-10."""

import numpy as np
import pytest
from scipy.special import digamma, gammaln, softmax

from .zoo import ZOO


def close(found, expected):
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-10, atol=1e-10)


def optimum(model, state, block):
    return model.factor(block, model.message(block, state.moments))


def q(model, state):
    return {name: model.factor(name, state.naturals[name]) for name in model.blocks}


def test_unit_mixture(swept):
    model, state = swept("unit_mixture")
    x, f = ZOO["unit_mixture"][1]["x"], q(model, state)
    m, s2, r = np.asarray(f["mu"].loc), np.asarray(f["mu"].variance), np.asarray(f["c"].probs)
    close(optimum(model, state, "c").probs, softmax(x[:, None] * m - 0.5 * (m**2 + s2), -1))
    new = optimum(model, state, "mu")
    close(new.variance, 1 / (1 / 9 + r.sum(0)))
    close(new.loc, (r.T @ x) / (1 / 9 + r.sum(0)))
    n = len(x)
    elbo = (
        np.sum(-0.5 * np.log(2 * np.pi * 9) - (m**2 + s2) / 18)
        - n * np.log(2)
        + np.sum(r * (-0.5 * np.log(2 * np.pi) - 0.5 * (x[:, None] ** 2 - 2 * x[:, None] * m + m**2 + s2)))
        - np.sum(r * np.log(r))
        + np.sum(0.5 * np.log(2 * np.pi * np.e * s2))
    )
    close(model.elbo(state.moments, state.naturals), elbo)


def test_normal_gamma(swept):
    model, state = swept("normal_gamma")
    x, f = ZOO["normal_gamma"][1]["x"], q(model, state)
    n, tau = len(x), float(f["tau"].means()[0])
    m, s2 = float(f["mu"].loc), float(f["mu"].variance)
    new = optimum(model, state, "mu")
    close(1 / new.variance, 1 / 4 + n * tau)
    close(new.loc, (0.5 / 4 + tau * x.sum()) / (1 / 4 + n * tau))
    new = optimum(model, state, "tau")
    close(new.concentration, 2 + n / 2)
    close(new.rate, 1.5 + 0.5 * np.sum((x - m) ** 2) + 0.5 * n * s2)


def test_diagonal_mixture(swept):
    model, state = swept("diagonal_mixture")
    x, f = ZOO["diagonal_mixture"][1]["x"], q(model, state)
    r, m, s2 = np.asarray(f["c"].probs), np.asarray(f["mu"].loc), np.asarray(f["mu"].variance)
    a, b = np.asarray(f["tau"].concentration), np.asarray(f["tau"].rate)
    tau, log_tau = a / b, digamma(a) - np.log(b)
    alpha = np.asarray(f["weights"].concentration)
    close(optimum(model, state, "weights").concentration, 2 + r.sum(0))
    precision = 1 / 25 + r.sum(0)[:, None] * tau
    new = optimum(model, state, "mu")
    close(1 / new.variance, precision)
    close(new.loc, tau * (r.T @ x) / precision)
    square = np.einsum("nk,nkd->kd", r, (x[:, None] - m) ** 2 + s2)
    new = optimum(model, state, "tau")
    close(new.concentration, np.broadcast_to(2 + 0.5 * r.sum(0)[:, None], a.shape))
    close(new.rate, 1 + 0.5 * square)
    logits = digamma(alpha) - digamma(alpha.sum()) + 0.5 * log_tau.sum(-1)
    logits = logits - 0.5 * np.sum(tau * ((x[:, None] - m) ** 2 + s2), -1)
    close(optimum(model, state, "c").probs, softmax(logits, -1))


def test_full_mixture(swept):
    model, state = swept("full_mixture")
    x, f = ZOO["full_mixture"][1]["x"], q(model, state)
    r, m, cov = np.asarray(f["c"].probs), np.asarray(f["mu"].loc), np.asarray(f["mu"].covariance)
    nu, scale = np.asarray(f["precision"].concentration), np.asarray(f["precision"].scale)
    matrix = nu[:, None, None] * scale
    new = optimum(model, state, "mu")
    precision = 0.05 * np.eye(2) + r.sum(0)[:, None, None] * matrix
    close(new.precision, precision)
    close(new.loc, np.linalg.solve(precision, np.einsum("kij,nk,nj->ki", matrix, r, x)[..., None])[..., 0])
    d = x[:, None] - m
    new = optimum(model, state, "precision")
    close(new.concentration, 4 + r.sum(0))
    close(new.rate, np.eye(2) + np.einsum("nk,nki,nkj->kij", r, d, d) + r.sum(0)[:, None, None] * cov)
    log_det = digamma((nu[:, None] - np.arange(2)) / 2).sum(-1) + 2 * np.log(2) + np.linalg.slogdet(scale)[1]
    alpha = np.asarray(f["weights"].concentration)
    logits = digamma(alpha) - 0.5 * np.einsum("nki,kij,nkj->nk", d, matrix, d)
    logits = logits + 0.5 * log_det - 0.5 * np.einsum("kij,kij->k", matrix, cov)
    close(optimum(model, state, "c").probs, softmax(logits, -1))


def test_ard_regression(swept):
    model, state = swept("ard_regression")
    data, f = ZOO["ard_regression"][1], q(model, state)
    X, y = data["X"], data["y"]
    alpha, tau = np.asarray(f["alpha"].means()[0]), float(f["tau"].means()[0])
    m, cov = np.asarray(f["w"].loc), np.asarray(f["w"].covariance)
    new = optimum(model, state, "w")
    precision = np.diag(alpha) + tau * X.T @ X
    close(new.precision, precision)
    close(new.loc, np.linalg.solve(precision, tau * X.T @ y))
    new = optimum(model, state, "alpha")
    close(new.concentration, np.full(5, 1.5))
    close(new.rate, 0.5 + 0.5 * (m**2 + np.diag(cov)))
    new = optimum(model, state, "tau")
    close(new.concentration, 1 + len(y) / 2)
    close(new.rate, 1 + 0.5 * np.sum((y - X @ m) ** 2) + 0.5 * np.trace(X.T @ X @ cov))


def test_hierarchical(swept):
    model, state = swept("hierarchical")
    data, f = ZOO["hierarchical"][1], q(model, state)
    g, y = data["group"], data["y"]
    between = float(f["between"].mean_params()["power"])
    within = float(f["within"].mean_params()["power"])
    mu, s_mu = float(f["mu"].loc), float(f["mu"].variance)
    b, s_b = np.asarray(f["b"].loc), np.asarray(f["b"].variance)
    count, total = np.bincount(g, minlength=6), np.bincount(g, y, minlength=6)
    new = optimum(model, state, "b")
    close(1 / new.variance, between + within * count)
    close(new.loc, (between * mu + within * total) / (between + within * count))
    new = optimum(model, state, "mu")
    close(1 / new.variance, 1 / 100 + 6 * between)
    close(new.loc, between * b.sum() / (1 / 100 + 6 * between))
    new = optimum(model, state, "between")
    close(new.concentration, 2 + 3)
    close(new.rate, 1 + 0.5 * np.sum((b - mu) ** 2 + s_b) + 3 * s_mu)
    new = optimum(model, state, "within")
    close(new.concentration, 2 + len(y) / 2)
    close(new.rate, 1 + 0.5 * np.sum((y - b[g]) ** 2 + s_b[g]))


def test_ppca(swept):
    model, state = swept("ppca")
    x, f = ZOO["ppca"][1]["x"], q(model, state)
    tau, alpha = float(f["tau"].means()[0]), np.asarray(f["alpha"].means()[0])
    W, cov_w = np.asarray(f["W"].loc), np.asarray(f["W"].covariance)
    z, cov_z = np.asarray(f["z"].loc), np.asarray(f["z"].covariance)
    mean, s_mean = np.asarray(f["m"].loc), np.asarray(f["m"].variance)
    new = optimum(model, state, "z")
    precision = np.eye(2) + tau * (W.T @ W + cov_w.sum(0))
    close(new.precision, np.broadcast_to(precision, (40, 2, 2)))
    close(new.loc, np.linalg.solve(precision, tau * W.T @ (x - mean).T).T)
    new = optimum(model, state, "W")
    precision = np.diag(alpha) + tau * (z.T @ z + cov_z.sum(0))
    close(new.precision, np.broadcast_to(precision, (5, 2, 2)))
    close(new.loc, np.linalg.solve(precision, tau * z.T @ (x - mean)).T)
    new = optimum(model, state, "m")
    close(1 / new.variance, np.full(5, 0.01 + 40 * tau))
    close(new.loc, tau * np.sum(x - z @ W.T, 0) / (0.01 + 40 * tau))
    new = optimum(model, state, "alpha")
    close(new.concentration, np.full(2, 1 + 2.5))
    close(new.rate, 1 + 0.5 * (np.sum(W**2, 0) + np.einsum("dii->i", cov_w)))
    new = optimum(model, state, "tau")
    close(new.concentration, 1 + 100)
    second_w, second_z = cov_w + W[:, :, None] * W[:, None], cov_z + z[:, :, None] * z[:, None]
    square = np.sum((x - mean - z @ W.T) ** 2) + 40 * s_mean.sum()
    square += np.einsum("dij,nij->", second_w, second_z) - np.sum((z @ W.T) ** 2)
    close(new.rate, 1 + 0.5 * square)


def test_lda_tokens(swept):
    model, state = swept("lda_tokens")
    data, f = ZOO["lda_tokens"][1], q(model, state)
    r = np.asarray(f["z"].probs)
    a, b = np.asarray(f["theta"].concentration), np.asarray(f["phi"].concentration)
    words = np.zeros((3, 7))
    np.add.at(words.T, data["word"], r)
    docs = np.zeros((5, 3))
    np.add.at(docs, data["doc"], r)
    close(optimum(model, state, "phi").concentration, 0.5 + words)
    close(optimum(model, state, "theta").concentration, 0.7 + docs)
    logits = digamma(a)[data["doc"]] + (digamma(b) - digamma(b.sum(-1, keepdims=True))).T[data["word"]]
    close(optimum(model, state, "z").probs, softmax(logits, -1))


def test_two_discrete_sites(swept):
    model, state = swept("two_discrete_sites")
    x, f = ZOO["two_discrete_sites"][1]["x"], q(model, state)
    a, sa = np.asarray(f["a"].loc), np.asarray(f["a"].variance)
    b, sb = np.asarray(f["b"].loc), np.asarray(f["b"].variance)
    p, r = np.asarray(f["first"].probs), np.asarray(f["second"].probs)
    table, prior = np.array([[0.2, 0.3, 0.5], [0.6, 0.2, 0.2]]), np.array([0.6, 0.4])
    fit = x[:, None, None] * (a[:, None] + b) - 0.5 * ((a[:, None] + b) ** 2 + sa[:, None] + sb)
    joint = np.log(table) + fit
    close(optimum(model, state, "first").probs, softmax(np.log(prior) + np.einsum("nij,nj->ni", joint, r), -1))
    close(optimum(model, state, "second").probs, softmax(np.einsum("nij,ni->nj", joint, p), -1))
    new = optimum(model, state, "a")
    close(1 / new.variance, 1 / 9 + p.sum(0))
    close(new.loc, (p * (x - r @ b)[:, None]).sum(0) / (1 / 9 + p.sum(0)))


def test_hmm_gaussian(swept):
    model, state = swept("hmm_gaussian")
    x, f = ZOO["hmm_gaussian"][1]["x"], q(model, state)
    r = np.stack([np.asarray(f[f"s{t}"].probs) for t in range(6)])
    mu, s2, a = np.asarray(f["mu"].loc), np.asarray(f["mu"].variance), np.asarray(f["rows"].concentration)
    log_a = digamma(a) - digamma(a.sum(-1, keepdims=True))
    logits = x[2] * mu - 0.5 * (mu**2 + s2) + r[1] @ log_a + log_a @ r[3]
    close(optimum(model, state, "s2").probs, softmax(logits))
    close(optimum(model, state, "rows").concentration, 1 + r[:-1].T @ r[1:])
    close(1 / optimum(model, state, "mu").variance, 1 / 4 + r.sum(0))


def test_stick_breaking(swept):
    model, state = swept("stick_breaking")
    x, f = ZOO["stick_breaking"][1]["x"], q(model, state)
    r, m, s2 = np.asarray(f["c"].probs), np.asarray(f["mu"].loc), np.asarray(f["mu"].variance)
    a, b = (np.asarray(v) for v in f["v"].concentrations)
    new_a, new_b = optimum(model, state, "v").concentrations
    count = r.sum(0)
    close(new_a, 1 + count[:-1])
    close(new_b, 2 + np.cumsum(count[::-1])[::-1][1:])
    log_v, log_rest = digamma(a) - digamma(a + b), digamma(b) - digamma(a + b)
    weights = np.append(log_v, 0) + np.append(0, np.cumsum(log_rest))
    logits = weights + (x[:, None] * m - 0.5 * (m**2 + s2)) / 0.49
    close(optimum(model, state, "c").probs, softmax(logits, -1))


def test_poisson_rank_one(swept):
    model, state = swept("poisson_rank_one")
    y, f = ZOO["poisson_rank_one"][1]["y"], q(model, state)
    v = np.asarray(f["v"].means()[0])
    new = optimum(model, state, "u")
    close(new.concentration, 2 + y.sum(1, keepdims=True))
    close(new.rate, np.full((6, 1), 1 + v.sum()))


def test_missing_entries_leave_no_trace(swept):
    model, state = swept("factor_analysis_missing")
    data, f = ZOO["factor_analysis_missing"][1], q(model, state)
    x, seen = np.nan_to_num(data["x"]), data["seen"]
    W, cov_w = np.asarray(f["W"].loc), np.asarray(f["W"].covariance)
    tau = np.asarray(f["tau"].means()[0])
    second = cov_w + W[:, :, None] * W[:, None]
    new = optimum(model, state, "z")
    close(new.precision, np.eye(2) + np.einsum("nd,d,dij->nij", seen, tau, second))
    close(new.natural["z"], np.einsum("nd,nd,d,dm->nm", seen, x, tau, W))
    close(optimum(model, state, "tau").concentration, 1 + seen.sum(0) / 2)


def test_chosen_by_where(swept):
    model, state = swept("chosen_by_where")
    x, r = ZOO["chosen_by_where"][1]["x"], np.asarray(q(model, state)["z"].probs)
    new = optimum(model, state, "high")
    close(new.concentration, 4 + 0.5 * r[:, 1].sum())
    close(new.rate, 1 + 0.5 * np.sum(r[:, 1] * x**2))


@pytest.mark.parametrize("name", ["unit_mixture", "one_hot_mixture"])
def test_one_hot_is_indexing(swept, name):
    model, state = swept(name)
    assert type(model.factor("mu", state.naturals["mu"])).__name__ == "Normal"


def test_poisson_gamma_is_exact(swept):
    model, state = swept("poisson_gamma")
    data = ZOO["poisson_gamma"][1]
    y, t = data["y"], data["t"]
    a, b = 2 + y.sum(), 1 + t.sum()
    evidence = np.sum(y * np.log(t) - gammaln(y + 1)) - gammaln(2) + gammaln(a) - a * np.log(b)
    close(model.elbo(state.moments, state.naturals), evidence)


def test_poisson_factorisation(swept):
    """The latent counts of a cell are multinomial given their sum (Cemgil 2009, section 3)."""
    model, state = swept("poisson_factorisation")
    y, f = ZOO["poisson_factorisation"][1]["y"], q(model, state)
    u, v = (f[name].mean_params() for name in ("u", "v"))
    shares = np.asarray(f["k"].probs)
    found = np.asarray(optimum(model, state, "k").probs)
    close(found[y > 0], softmax(u["log"][:, None] + v["log"], -1)[y > 0])
    new = optimum(model, state, "u")
    close(new.concentration, 1 + np.einsum("nd,ndk->nk", y, shares))
    close(new.rate, np.broadcast_to(1 + np.sum(v["power"], 0), (6, 2)))
    new = optimum(model, state, "v")
    close(new.concentration, 2 + np.einsum("nd,ndk->dk", y, shares))
    a, b, c, e = (np.asarray(x) for x in (f["u"].concentration, f["u"].rate, f["v"].concentration, f["v"].rate))
    entropy = np.sum(a - np.log(b) + gammaln(a) + (1 - a) * digamma(a))
    entropy += np.sum(c - np.log(e) + gammaln(c) + (1 - c) * digamma(c))
    expected = np.sum(-u["power"]) + np.sum(v["log"] - v["power"]) - np.sum(u["power"] @ np.asarray(v["power"]).T)
    parts = np.asarray(u["log"])[:, None] + np.asarray(v["log"]) - np.log(np.where(shares > 0, shares, 1.0))
    bound = entropy + expected - np.sum(gammaln(y + 1)) + np.einsum("nd,ndk,ndk->", y, shares, parts)
    close(model.elbo(state.moments, state.naturals), bound)


def test_mixed_membership(swept):
    model, state = swept("mixed_membership")
    y, f = ZOO["mixed_membership"][1]["y"], q(model, state)
    s, t = np.asarray(f["s"].probs), np.asarray(f["t"].probs)
    one, zero = (np.asarray(c) for c in f["eta"].concentrations)
    log_one, log_zero = digamma(one) - digamma(one + zero), digamma(zero) - digamma(one + zero)
    fit = np.where(y[..., None, None] == 1, log_one, log_zero)
    a, b = np.asarray(f["a"].concentration), np.asarray(f["b"].concentration)
    log_a, log_b = (digamma(c) - digamma(c.sum(-1, keepdims=True)) for c in (a, b))
    close(optimum(model, state, "s").probs, softmax(log_a[:, None] + np.einsum("ndij,ndj->ndi", fit, t), -1))
    close(optimum(model, state, "t").probs, softmax(log_b + np.einsum("ndij,ndi->ndj", fit, s), -1))
    close(optimum(model, state, "a").concentration, 1 + s.sum(1))
    close(optimum(model, state, "b").concentration, 1 + t.sum(0))
    new_one, new_zero = optimum(model, state, "eta").concentrations
    close(new_one, 1 + np.einsum("nd,ndi,ndj->ij", y, s, t))
    close(new_zero, 1 + np.einsum("nd,ndi,ndj->ij", 1 - y, s, t))


def test_random_walk(swept):
    """NumPyro's GaussianRandomWalk: a chain whose precision sees the increments, the first from zero."""
    model, state = swept("random_walk")
    y, f = ZOO["random_walk"][1]["y"], q(model, state)
    tau = float(f["q"].means()[0])
    steps = np.eye(20) - np.eye(20, k=-1)
    covariance = np.linalg.inv(4 * np.eye(20) + tau * steps.T @ steps)
    new = optimum(model, state, "z")
    close(new.means()[0], covariance @ (4 * y))
    close(new.variances()[0], np.diag(covariance))
    moments = f["z"].mean_params()
    second, cross = np.asarray(moments["zz"]), np.asarray(moments["cross"])
    new = optimum(model, state, "q")
    close(new.concentration, 2 + 10)
    close(new.rate, 1 + 0.5 * (second.sum() + second[:-1].sum() - 2 * cross.sum()))
