"""Conjugate models as users write them, each with small data."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.contrib.control_flow import scan

RNG = np.random.default_rng(20240607)
ZOO: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {}


def model(**data: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(fn: Callable[..., Any]) -> Callable[..., Any]:
        ZOO[fn.__name__] = (fn, data)
        return fn

    return register


MIXTURE_X = np.array((-2.1, -1.7, -2.4, 1.9, 2.2, 2.6, 0.3, -0.4))


@model(x=MIXTURE_X, K=2)
def unit_mixture(x, K):
    with numpyro.plate("component", K):
        mu = numpyro.sample("mu", dist.Normal(0, 3))
    with numpyro.plate("row", len(x)):
        c = numpyro.sample("c", dist.Categorical(jnp.ones(K) / K))
        numpyro.sample("x", dist.Normal(mu[c], 1), obs=x)


@model(x=RNG.normal(2.0, 0.7, 30))
def normal_gamma(x):
    mu = numpyro.sample("mu", dist.Normal(0.5, 2))
    tau = numpyro.sample("tau", dist.Gamma(2, 1.5))
    with numpyro.plate("row", len(x)):
        numpyro.sample("x", dist.Normal(mu, 1 / jnp.sqrt(tau)), obs=x)


@model(x=RNG.normal(2.0, 0.7, 30))
def normal_gamma_joint_prior(x):
    tau = numpyro.sample("tau", dist.Gamma(2, 1.5))
    mu = numpyro.sample("mu", dist.Normal(0.5, 2 / jnp.sqrt(tau)))
    with numpyro.plate("row", len(x)):
        numpyro.sample("x", dist.Normal(mu, tau**-0.5), obs=x)


BLOBS = np.concatenate([RNG.normal(m, 0.6, (20, 2)) for m in ((-3, 0), (3, 1), (0, 4))])


@model(x=BLOBS, K=3)
def diagonal_mixture(x, K):
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.full(K, 2.0)))
    with numpyro.plate("component", K):
        mu = numpyro.sample("mu", dist.Normal(0, 5).expand([2]).to_event(1))
        tau = numpyro.sample("tau", dist.Gamma(2, 1).expand([2]).to_event(1))
    with numpyro.plate("row", len(x)):
        c = numpyro.sample("c", dist.Categorical(weights))
        numpyro.sample("x", dist.Normal(mu[c], 1 / jnp.sqrt(tau[c])).to_event(1), obs=x)


@model(x=BLOBS, K=3)
def full_mixture(x, K):
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.full(K, 2.0)))
    with numpyro.plate("component", K):
        mu = numpyro.sample("mu", dist.MultivariateNormal(jnp.zeros(2), precision_matrix=0.05 * jnp.eye(2)))
        precision = numpyro.sample("precision", dist.Wishart(4.0, rate_matrix=jnp.eye(2)))
    with numpyro.plate("row", len(x)):
        c = numpyro.sample("c", dist.Categorical(weights))
        numpyro.sample("x", dist.MultivariateNormal(mu[c], precision_matrix=precision[c]), obs=x)


DESIGN = RNG.normal(size=(40, 5))
RESPONSE = DESIGN @ np.array([1.5, 0.0, -2.0, 0.0, 0.7]) + 0.4 * RNG.normal(size=40)


@model(X=DESIGN, y=RESPONSE)
def ard_regression(X, y):
    with numpyro.plate("feature", X.shape[1]):
        alpha = numpyro.sample("alpha", dist.Gamma(1.0, 0.5))
        w = numpyro.sample("w", dist.Normal(0, 1 / jnp.sqrt(alpha)))
    tau = numpyro.sample("tau", dist.Gamma(1, 1))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Normal(X @ w, 1 / jnp.sqrt(tau)), obs=y)


@model(X=DESIGN, y=RESPONSE)
def intercept_and_slope(X, y):
    a = numpyro.sample("a", dist.Normal(0, 10))
    b = numpyro.sample("b", dist.Normal(0, 10).expand([X.shape[1]]).to_event(1))
    variance = numpyro.sample("variance", dist.InverseGamma(2, 1))
    mean = a + jnp.dot(X, b)
    numpyro.sample("y", dist.Normal(mean, jnp.sqrt(variance)).to_event(1), obs=y)


GROUP = RNG.integers(0, 6, 50)


@model(group=GROUP, y=RNG.normal(size=6)[GROUP] + 0.5 * RNG.normal(size=50), J=6)
def hierarchical(group, y, J):
    mu = numpyro.sample("mu", dist.Normal(0, 10))
    between = numpyro.sample("between", dist.InverseGamma(2, 1))
    within = numpyro.sample("within", dist.InverseGamma(2, 1))
    with numpyro.plate("group", J):
        b = numpyro.sample("b", dist.Normal(mu, jnp.sqrt(between)))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Normal(b[group], jnp.sqrt(within)), obs=y)


PPCA_X = RNG.normal(size=(40, 2)) @ RNG.normal(size=(2, 5)) + 1.0 + 0.3 * RNG.normal(size=(40, 5))


@model(x=PPCA_X, M=2)
def ppca(x, M):
    n, d = x.shape
    alpha = numpyro.sample("alpha", dist.Gamma(1, 1).expand([M]).to_event(1))
    tau = numpyro.sample("tau", dist.Gamma(1, 1))
    m = numpyro.sample("m", dist.Normal(0, 10).expand([d]).to_event(1))
    with numpyro.plate("dim", d):
        W = numpyro.sample("W", dist.Normal(0, 1 / jnp.sqrt(alpha)).to_event(1))
    with numpyro.plate("row", n):
        z = numpyro.sample("z", dist.Normal(0, 1).expand([M]).to_event(1))
        numpyro.sample("x", dist.Normal(z @ W.T + m, 1 / jnp.sqrt(tau)).to_event(1), obs=x)


HOLES = RNG.random(PPCA_X.shape) < 0.2


@model(x=np.where(HOLES, np.nan, PPCA_X), seen=~HOLES, M=2)
def factor_analysis_missing(x, seen, M):
    n, d = x.shape
    with numpyro.plate("dim", d):
        W = numpyro.sample("W", dist.Normal(0, 1).expand([M]).to_event(1))
        tau = numpyro.sample("tau", dist.Gamma(1, 1))
    with numpyro.plate("row", n):
        z = numpyro.sample("z", dist.Normal(0, 1).expand([M]).to_event(1))
    with numpyro.plate("row_", n, dim=-2), numpyro.plate("dim_", d, dim=-1), handlers.mask(mask=seen):
        numpyro.sample("x", dist.Normal(z @ W.T, 1 / jnp.sqrt(tau)), obs=x)


DOC = np.repeat(np.arange(5), 12)


@model(doc=DOC, word=RNG.integers(0, 7, 60), D=5, V=7, K=3)
def lda_tokens(doc, word, D, V, K):
    with numpyro.plate("topic", K):
        phi = numpyro.sample("phi", dist.Dirichlet(jnp.full(V, 0.5)))
    with numpyro.plate("document", D):
        theta = numpyro.sample("theta", dist.Dirichlet(jnp.full(K, 0.7)))
    with numpyro.plate("token", len(doc)):
        z = numpyro.sample("z", dist.Categorical(theta[doc]))
        numpyro.sample("word", dist.Categorical(phi[z]), obs=word)


COUNTS = RNG.poisson(1.0, (5, 7))
ENTRY_DOC, ENTRY_WORD = np.nonzero(COUNTS)


@model(doc=ENTRY_DOC, word=ENTRY_WORD, count=COUNTS[ENTRY_DOC, ENTRY_WORD] * 1.0, D=5, V=7, K=3)
def lda_counts(doc, word, count, D, V, K):
    with numpyro.plate("topic", K):
        phi = numpyro.sample("phi", dist.Dirichlet(jnp.full(V, 0.5)))
    with numpyro.plate("document", D):
        theta = numpyro.sample("theta", dist.Dirichlet(jnp.full(K, 0.7)))
    with numpyro.plate("entry", len(doc)), handlers.scale(scale=count):
        z = numpyro.sample("z", dist.Categorical(theta[doc]))
        numpyro.sample("word", dist.Categorical(phi[z]), obs=word)


def padded(counts):
    """(word numbers, counts), one row per document, filled up with zeros."""
    words = np.zeros((len(counts), (counts > 0).sum(1).max()), int)
    numbers = np.zeros(words.shape)
    for d, row in enumerate(counts):
        found = np.flatnonzero(row)
        words[d, : len(found)], numbers[d, : len(found)] = found, row[found]
    return {"words": words, "counts": numbers}


@model(**padded(COUNTS), V=7, K=3)
def lda_documents(words, counts, V, K):
    with numpyro.plate("topic", K):
        phi = numpyro.sample("phi", dist.Dirichlet(jnp.full(V, 0.5)))
    with numpyro.plate("document", words.shape[0], dim=-2):
        theta = numpyro.sample("theta", dist.Dirichlet(jnp.full(K, 0.7)))
        entry = numpyro.plate("entry", words.shape[1], dim=-1)
        with entry, handlers.mask(mask=counts > 0), handlers.scale(scale=counts):
            z = numpyro.sample("z", dist.Categorical(theta))
            numpyro.sample("word", dist.Categorical(phi[z]), obs=words)


@model(x=np.array([0.2, 1.9, 3.1, 4.2, 0.1]))
def two_discrete_sites(x):
    a = numpyro.sample("a", dist.Normal(0, 3).expand([2]).to_event(1))
    b = numpyro.sample("b", dist.Normal(0, 3).expand([3]).to_event(1))
    with numpyro.plate("row", len(x)):
        first = numpyro.sample("first", dist.Bernoulli(0.4))
        table = jnp.array([[0.2, 0.3, 0.5], [0.6, 0.2, 0.2]])
        second = numpyro.sample("second", dist.Categorical(table[first]))
        numpyro.sample("x", dist.Normal(a[first] + b[second], 1), obs=x)


@model(x=np.array([0.1, -0.3, 2.2, 1.8, 2.1, 0.2]), K=2)
def hmm_gaussian(x, K):
    with numpyro.plate("state", K):
        mu = numpyro.sample("mu", dist.Normal(0, 2))
        rows = numpyro.sample("rows", dist.Dirichlet(jnp.ones(K)))
    s = None
    for t in range(len(x)):
        s = numpyro.sample(f"s{t}", dist.Categorical(jnp.ones(K) / K if s is None else rows[s]))
        numpyro.sample(f"x{t}", dist.Normal(mu[s], 1), obs=x[t])


@model(x=np.array([0, 2, 2, 1, 0, 0]), K=2, V=3)
def hmm_categorical(x, K, V):
    with numpyro.plate("state", K):
        emit = numpyro.sample("emit", dist.Dirichlet(jnp.ones(V)))
        rows = numpyro.sample("rows", dist.Dirichlet(jnp.ones(K)))
    s = 0
    for t in range(len(x)):
        s = numpyro.sample(f"s{t}", dist.Categorical(rows[s]))
        numpyro.sample(f"x{t}", dist.Categorical(emit[s]), obs=x[t])


def stick_weights(v):
    rest = jnp.cumprod(1 - v)
    return jnp.pad(v, (0, 1), constant_values=1.0) * jnp.pad(rest, (1, 0), constant_values=1.0)


@model(x=BLOBS[:, 0], K=4)
def stick_breaking(x, K):
    v = numpyro.sample("v", dist.Beta(1, 2).expand([K - 1]).to_event(1))
    with numpyro.plate("component", K):
        mu = numpyro.sample("mu", dist.Normal(0, 4))
    with numpyro.plate("row", len(x)):
        c = numpyro.sample("c", dist.Categorical(stick_weights(v)))
        numpyro.sample("x", dist.Normal(mu[c], 0.7), obs=x)


@model(a=np.array([1, 0, 1, 1, 0, 1]), b=np.array([0, 0, 1, 0, 0]))
def ab_test(a, b):
    p = numpyro.sample("p", dist.Beta(1, 1))
    q = numpyro.sample("q", dist.Uniform(0, 1))
    with numpyro.plate("left", len(a)):
        numpyro.sample("a", dist.Bernoulli(p), obs=a)
    with numpyro.plate("right", len(b)):
        numpyro.sample("b", dist.Bernoulli(probs=q), obs=b)


@model(y=np.array([3, 5, 2, 4]), t=np.array([1.0, 2.0, 0.5, 1.5]))
def poisson_gamma(y, t):
    rate = numpyro.sample("rate", dist.Gamma(2, 1))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Poisson(rate * t), obs=y)


@model(y=RNG.poisson(4.0, (6, 5)))
def poisson_rank_one(y):
    with numpyro.plate("row_", 6, dim=-2):
        u = numpyro.sample("u", dist.Gamma(2, 1))
    with numpyro.plate("column_", 5, dim=-1):
        v = numpyro.sample("v", dist.Gamma(2, 1))
    with numpyro.plate("row", 6, dim=-2), numpyro.plate("column", 5, dim=-1):
        numpyro.sample("y", dist.Poisson(u * v), obs=y)


@model(y=RNG.poisson(RNG.gamma(1, 1, (6, 2)) @ RNG.gamma(1, 1, (2, 5)) * 2) * 1.0, K=2)
def poisson_factorisation(y, K):
    """Poisson(Σ_k u_nk v_dk): the y_nd events of a cell, one by one, each caused by one of the K parts."""
    n, d = y.shape
    u = numpyro.sample("u", dist.Gamma(1, 1).expand([n, K]).to_event(2))
    v = numpyro.sample("v", dist.Gamma(2, 1).expand([d, K]).to_event(2))
    numpyro.factor("rates", -jnp.sum(u @ v.T) - jnp.sum(jax.scipy.special.gammaln(y + 1.0)))
    cells = numpyro.plate("row", n, dim=-2), numpyro.plate("column", d, dim=-1)
    with cells[0], cells[1], handlers.mask(mask=y > 0), handlers.scale(scale=y):
        k = numpyro.sample("k", dist.Categorical(jnp.ones(K) / K))
        numpyro.factor("part", jnp.log(K * u[jnp.arange(n)[:, None], k] * v[jnp.arange(d), k]))


@model(y=RNG.integers(0, 2, (6, 5)), K=2)
def mixed_membership(y, K):
    """Users and items with memberships of their own; a cell takes one group from either side."""
    n, d = y.shape
    eta = numpyro.sample("eta", dist.Beta(1, 1).expand([K, K]).to_event(2))
    with numpyro.plate("user", n):
        a = numpyro.sample("a", dist.Dirichlet(jnp.ones(K)))
    with numpyro.plate("item", d):
        b = numpyro.sample("b", dist.Dirichlet(jnp.ones(K)))
    with numpyro.plate("row", n, dim=-2), numpyro.plate("column", d, dim=-1):
        s = numpyro.sample("s", dist.Categorical(a[:, None]))
        t = numpyro.sample("t", dist.Categorical(b))
        numpyro.sample("y", dist.Bernoulli(eta[s, t]), obs=y)


@model(y=RNG.normal(size=20).cumsum())
def random_walk(y):
    q = numpyro.sample("q", dist.Gamma(2, 1))
    z = numpyro.sample("z", dist.GaussianRandomWalk(1 / jnp.sqrt(q), num_steps=len(y)))
    numpyro.sample("y", dist.Normal(z, 0.5).to_event(1), obs=y)


@model(y=RNG.normal(size=12).cumsum())
def local_level(y):
    q = numpyro.sample("q", dist.Gamma(2, 1))
    r = numpyro.sample("r", dist.Gamma(2, 1))
    level = numpyro.sample("level", dist.Normal(0, 5).expand([len(y)]).to_event(1))
    numpyro.factor("walk", jnp.sum(0.5 * jnp.log(q) - 0.5 * q * (level[1:] - level[:-1]) ** 2))
    numpyro.sample("y", dist.Normal(level, 1 / jnp.sqrt(r)).to_event(1), obs=y)


@model(y=RNG.normal(size=(8, 2)).cumsum(0))
def linear_gaussian_state_space(y):
    A = jnp.array([[0.9, 0.2], [0.0, 0.8]])
    state = numpyro.sample("s0", dist.Normal(0, 1).expand([2]).to_event(1))
    for t in range(len(y)):
        if t:
            state = numpyro.sample(f"s{t}", dist.MultivariateNormal(A @ state, precision_matrix=2.0 * jnp.eye(2)))
        numpyro.sample(f"y{t}", dist.MultivariateNormal(state, covariance_matrix=0.5 * jnp.eye(2)), obs=y[t])


@model(y=RNG.normal(size=30).cumsum())
def kalman_level(y):
    q = numpyro.sample("q", dist.Gamma(2, 1))
    r = numpyro.sample("r", dist.Gamma(2, 1))

    def step(before, now):
        level = numpyro.sample("level", dist.Normal(before, 1 / jnp.sqrt(q)))
        numpyro.sample("y", dist.Normal(level, 1 / jnp.sqrt(r)), obs=now)
        return level, None

    scan(step, 0.0, y)


@model(y=RNG.normal(size=(37, 2)).cumsum(0), A=np.array([[0.9, 0.2], [0.0, 0.8]]))
def state_space(y, A):
    def step(before, now):
        state = numpyro.sample("state", dist.MultivariateNormal(A @ before, precision_matrix=2.0 * jnp.eye(2)))
        numpyro.sample("y", dist.MultivariateNormal(state, covariance_matrix=0.5 * jnp.eye(2)), obs=now)
        return state, state

    scan(step, jnp.zeros(2), y)


@model(x=np.where(np.arange(40) // 8 % 2, 2.0, -1.0) + 0.5 * RNG.normal(size=40), K=2)
def chain_gaussian(x, K):
    with numpyro.plate("value", K):
        mu = numpyro.sample("mu", dist.Normal(0, 2))
        tau = numpyro.sample("tau", dist.Gamma(2, 1))
        rows = numpyro.sample("rows", dist.Dirichlet(jnp.ones(K)))

    def step(before, now):
        s = numpyro.sample("s", dist.Categorical(rows[before]))
        numpyro.sample("x", dist.Normal(mu[s], 1 / jnp.sqrt(tau[s])), obs=now)
        return s, None

    scan(step, 0, x)


@model(x=RNG.integers(0, 4, (25, 3)), K=3)
def chains_categorical(x, K):
    """Three sequences side by side; the emissions stand outside the scan."""
    start = numpyro.sample("start", dist.Dirichlet(jnp.ones(K)))
    with numpyro.plate("value", K):
        rows = numpyro.sample("rows", dist.Dirichlet(jnp.ones(K)))
        emit = numpyro.sample("emit", dist.Dirichlet(jnp.ones(4)))

    def step(carry, _):
        before, t = carry
        with numpyro.plate("sequence", x.shape[1]):
            s = numpyro.sample("s", dist.Categorical(jnp.where(t == 0, start, rows[before])))
        return (s, t + 1), s

    _, s = scan(step, (jnp.zeros(x.shape[1], int), 0), None, length=len(x))
    with numpyro.plate("time_", len(x), dim=-2), numpyro.plate("sequence_", x.shape[1], dim=-1):
        numpyro.sample("x", dist.Categorical(emit[s]), obs=x)


@model(x=RNG.gamma(3.0, 0.5, 20))
def gamma_rate(x):
    rate = numpyro.sample("rate", dist.Gamma(1, 1))
    with numpyro.plate("row", len(x)):
        numpyro.sample("x", dist.Gamma(3.0, rate), obs=x)


@model(x=RNG.exponential(0.5, 20))
def exponential_chi2(x):
    rate = numpyro.sample("rate", dist.Chi2(3.0))
    with numpyro.plate("row", len(x)):
        numpyro.sample("x", dist.Exponential(rate), obs=x)


@model(x=np.exp(RNG.normal(1.0, 0.5, 20)))
def log_normal_data(x):
    mu = numpyro.sample("mu", dist.Normal(0, 2))
    tau = numpyro.sample("tau", dist.Gamma(2, 1))
    with numpyro.plate("row", len(x)):
        numpyro.sample("x", dist.LogNormal(mu, 1 / jnp.sqrt(tau)), obs=x)


@model(k=np.array([0, 2, 1]), n=np.array([3, 5, 1]), g=np.array([0, 1, 4]), r=np.array([2, 0, 1]))
def bernoulli_family(k, n, g, r):
    p = numpyro.sample("p", dist.Beta(2, 3))
    with numpyro.plate("row", len(k)):
        numpyro.sample("k", dist.Binomial(n, p), obs=k)
        numpyro.sample("g", dist.Geometric(p), obs=g)
        numpyro.sample("r", dist.NegativeBinomialProbs(3.0, p), obs=r)


@model(y=np.array([[1, 0, 3], [2, 2, 0]]))
def dirichlet_multinomial(y):
    p = numpyro.sample("p", dist.Dirichlet(jnp.array([1.0, 2.0, 0.5])))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Multinomial(total_count=y.sum(-1), probs=p), obs=y)


@model(x=RNG.multivariate_normal([1.0, -1.0], [[1.0, 0.6], [0.6, 2.0]], 25))
def normal_wishart(x):
    mu = numpyro.sample("mu", dist.MultivariateNormal(jnp.zeros(2), 10.0 * jnp.eye(2)))
    precision = numpyro.sample("precision", dist.Wishart(3.0, scale_matrix=jnp.eye(2)))
    with numpyro.plate("row", len(x)):
        numpyro.sample("x", dist.MultivariateNormal(mu, precision_matrix=precision), obs=x)


@model(x=RNG.multivariate_normal([1.0, -1.0, 0.3], np.diag([1.0, 2.0, 0.5]) + 0.3, 25))
def normal_wishart_joint_prior(x):
    precision = numpyro.sample("precision", dist.Wishart(5.0, rate_matrix=2.0 * jnp.eye(3)))
    mu = numpyro.sample("mu", dist.MultivariateNormal(0.5 * jnp.ones(3), precision_matrix=0.3 * precision))
    with numpyro.plate("row", len(x)):
        numpyro.sample("x", dist.MultivariateNormal(mu, precision_matrix=precision), obs=x)


@model(x=RNG.multivariate_normal([0.0, 0.0], [[1.0, 0.6], [0.6, 2.0]], 25))
def inverse_wishart(x):
    covariance = numpyro.sample("covariance", dist.InverseWishart(5.0, scale_matrix=jnp.eye(2)))
    with numpyro.plate("row", len(x)):
        numpyro.sample("x", dist.MultivariateNormal(jnp.zeros(2), covariance_matrix=covariance), obs=x)


@model(x=RNG.multivariate_normal([0.0, 0.0], [[1.0, 0.6], [0.6, 2.0]], 25))
def scaled_precision(x):
    t = numpyro.sample("t", dist.Gamma(2, 1))
    base = jnp.array([[2.0, 0.3], [0.3, 1.0]])
    with numpyro.plate("row", len(x)):
        numpyro.sample("x", dist.MultivariateNormal(jnp.zeros(2), precision_matrix=t * base), obs=x)


@model(x=BLOBS[:, 0])
def chosen_by_where(x):
    low = numpyro.sample("low", dist.Gamma(2, 1))
    high = numpyro.sample("high", dist.Gamma(4, 1))
    with numpyro.plate("row", len(x)):
        z = numpyro.sample("z", dist.Bernoulli(0.5))
        precision = jnp.where(z == 1, high, low)
        numpyro.sample("x", dist.Normal(0, 1 / jnp.sqrt(precision)), obs=x)


@model(x=MIXTURE_X, K=2)
def one_hot_mixture(x, K):
    mu = numpyro.sample("mu", dist.Normal(0, 3).expand([K]).to_event(1))
    with numpyro.plate("row", len(x)):
        c = numpyro.sample("c", dist.Categorical(jnp.ones(K) / K))
        numpyro.sample("x", dist.Normal(jax.nn.one_hot(c, K) @ mu, 1), obs=x)


@model(y=RNG.integers(0, 2, (7, 4)), K=2)
def latent_classes(y, K):
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.ones(K)))
    with numpyro.plate("class", K):
        p = numpyro.sample("p", dist.Beta(1, 1).expand([4]).to_event(1))
    with numpyro.plate("row", len(y)):
        c = numpyro.sample("c", dist.Categorical(weights))
        numpyro.sample("y", dist.Bernoulli(p[c]).to_event(1), obs=y)


@model(winner=np.array([0, 1, 2, 0, 0]), loser=np.array([1, 2, 0, 2, 1]), margin=RNG.normal(1, 1, 5), J=3)
def paired_differences(winner, loser, margin, J):
    skill = numpyro.sample("skill", dist.Normal(0, 1).expand([J]).to_event(1))
    with numpyro.plate("game", len(winner)):
        numpyro.sample("margin", dist.Normal(skill[winner] - skill[loser], 1), obs=margin)


@model(x=RNG.normal(size=(4, 3, 2)))
def nested_plates(x):
    mu = numpyro.sample("mu", dist.Normal(0, 3))
    with numpyro.plate("school", 4, dim=-2):
        a = numpyro.sample("a", dist.Normal(mu, 1))
        with numpyro.plate("class", 3, dim=-1):
            b = numpyro.sample("b", dist.Normal(a, 1))
            numpyro.sample("x", dist.Normal(b[..., None], 1).expand([4, 3, 2]).to_event(1), obs=x)


@model(x=RNG.normal(3.0, 2.0, 15))
def half_normal_site(x):
    size = numpyro.sample("size", dist.HalfNormal(2.0))
    mean = numpyro.sample("mean", dist.Normal(0, 3))
    numpyro.sample("seen", dist.HalfNormal(1.0), obs=1.5)
    with numpyro.plate("row", len(x)):
        numpyro.sample("x", dist.Normal(mean, 1), obs=x)
    del size


@model(x=RNG.normal(size=(9, 3)))
def scatter_and_stack(x):
    w = numpyro.sample("w", dist.Normal(0, 1).expand([2]).to_event(1))
    padded = jnp.zeros(3).at[jnp.array([0, 2])].set(w)
    tiled = jnp.stack([w[::-1], 2 * w]).reshape(-1)[:3]
    numpyro.sample("x", dist.Normal(padded + tiled, 1).expand([9, 3]).to_event(2), obs=x)
