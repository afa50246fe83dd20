"""The bound that `svi` reaches with its defaults from a cold start, and the best that `cavi` finds, in nats per row.

    python benchmarks/svi_bound.py [--models mixture lda_tokens ...] [--seeds 3] [--rows 3000] [--restarts 4]

One line for each model and seed: the gap (cavi - svi) / N in nats per row of the subsampled plate, what svi says about
itself, and CPU seconds of both, compilation included. A gap above 1e-3 is marked.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro import handlers

import jensen as jn

TARGET = 1e-3
Case = tuple[Callable[..., Any], dict[str, Any]]


def mixture(x, K):
    """Normals with a mean and a precision for each coordinate."""
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.full(K, 2.0)))
    with numpyro.plate("component", K):
        mu = numpyro.sample("mu", dist.Normal(0, 5).expand([x.shape[1]]).to_event(1))
        tau = numpyro.sample("tau", dist.Gamma(2, 1).expand([x.shape[1]]).to_event(1))
    with numpyro.plate("row", len(x)):
        c = numpyro.sample("c", dist.Categorical(weights))
        numpyro.sample("x", dist.Normal(mu[c], 1 / jnp.sqrt(tau[c])).to_event(1), obs=x)


def full_mixture(x, K):
    """Normals with a full precision matrix."""
    d = x.shape[1]
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.full(K, 2.0)))
    with numpyro.plate("component", K):
        mu = numpyro.sample("mu", dist.MultivariateNormal(jnp.zeros(d), precision_matrix=0.05 * jnp.eye(d)))
        precision = numpyro.sample("precision", dist.Wishart(d + 2.0, rate_matrix=jnp.eye(d)))
    with numpyro.plate("row", len(x)):
        c = numpyro.sample("c", dist.Categorical(weights))
        numpyro.sample("x", dist.MultivariateNormal(mu[c], precision_matrix=precision[c]), obs=x)


def ppca(x, M):
    """Probabilistic principal components."""
    n, d = x.shape
    tau = numpyro.sample("tau", dist.Gamma(1, 1))
    with numpyro.plate("dim", d):
        W = numpyro.sample("W", dist.Normal(0, 1).expand([M]).to_event(1))
    with numpyro.plate("row", n):
        z = numpyro.sample("z", dist.Normal(0, 1).expand([M]).to_event(1))
        numpyro.sample("x", dist.Normal(z @ W.T, 1 / jnp.sqrt(tau)).to_event(1), obs=x)


def lda_tokens(doc, word, D, V, K):
    """Topics of words, one row for each word; the documents' shares are global."""
    with numpyro.plate("topic", K):
        phi = numpyro.sample("phi", dist.Dirichlet(jnp.full(V, 0.5)))
    with numpyro.plate("document", D):
        theta = numpyro.sample("theta", dist.Dirichlet(jnp.full(K, 0.7)))
    with numpyro.plate("token", len(doc)):
        z = numpyro.sample("z", dist.Categorical(theta[doc]))
        numpyro.sample("word", dist.Categorical(phi[z]), obs=word)


def lda_documents(words, counts, V, K):
    """Topics of words, one row for each document."""
    with numpyro.plate("topic", K):
        phi = numpyro.sample("phi", dist.Dirichlet(jnp.full(V, 0.5)))
    with numpyro.plate("document", words.shape[0], dim=-2):
        theta = numpyro.sample("theta", dist.Dirichlet(jnp.full(K, 0.7)))
        entry = numpyro.plate("entry", words.shape[1], dim=-1)
        with entry, handlers.mask(mask=counts > 0), handlers.scale(scale=counts):
            z = numpyro.sample("z", dist.Categorical(theta))
            numpyro.sample("word", dist.Categorical(phi[z]), obs=words)


def latent_classes(y, K):
    """Binary answers that depend on a class."""
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.ones(K)))
    with numpyro.plate("class", K):
        p = numpyro.sample("p", dist.Beta(1, 1).expand([y.shape[1]]).to_event(1))
    with numpyro.plate("row", len(y)):
        c = numpyro.sample("c", dist.Categorical(weights))
        numpyro.sample("y", dist.Bernoulli(p[c]).to_event(1), obs=y)


def hierarchical(y):
    """Groups with a level of their own, one row for each group."""
    mu = numpyro.sample("mu", dist.Normal(0, 10))
    between = numpyro.sample("between", dist.Gamma(2, 1))
    within = numpyro.sample("within", dist.Gamma(2, 1))
    with numpyro.plate("group", len(y)):
        b = numpyro.sample("b", dist.Normal(mu, 1 / jnp.sqrt(between)))
        numpyro.sample("y", dist.Normal(b[:, None], 1 / jnp.sqrt(within)).to_event(1), obs=y)


def chains(x, K):
    """Short hidden Markov chains side by side, their states in factors of their own."""
    with numpyro.plate("state", K):
        mu = numpyro.sample("mu", dist.Normal(0, 3))
        rows = numpyro.sample("rows", dist.Dirichlet(jnp.ones(K)))
    with numpyro.plate("row", len(x)):
        s = None
        for t in range(x.shape[1]):
            s = numpyro.sample(f"s{t}", dist.Categorical(jnp.ones(K) / K if s is None else rows[s]))
            numpyro.sample(f"x{t}", dist.Normal(mu[s], 1), obs=x[:, t])


def poisson_factors(y, K):
    """Counts that are sums of latent counts."""
    n, d = y.shape
    with numpyro.plate("column", d):
        v = numpyro.sample("v", dist.Gamma(2, 1).expand([K]).to_event(1))
    with numpyro.plate("row", n, dim=-2):
        u = numpyro.sample("u", dist.Gamma(1, 1).expand([n, 1, K]).to_event(1))
        numpyro.factor("rates", -jnp.sum(u[:, 0] @ v.T, -1, keepdims=True))
        with numpyro.plate("cell", d, dim=-1), handlers.mask(mask=y > 0), handlers.scale(scale=y):
            k = numpyro.sample("k", dist.Categorical(jnp.ones(K) / K))
            numpyro.factor("part", jnp.log(K * u[jnp.arange(n)[:, None], 0, k] * v[jnp.arange(d), k]))


def cases(rows: int) -> dict[str, Case]:
    """Models with data from them."""
    rng = np.random.default_rng(3)
    few = rows // 6
    centers = np.array([[-3.0, 0, 1], [3, 1, 0], [0, 4, -1], [0, -2, 2]])
    c = rng.integers(0, 4, rows)
    x = centers[c] + rng.normal(size=(rows, 3))
    close = 0.5 * centers[c] + rng.normal(size=(rows, 3))
    factors = rng.normal(size=(rows, 2)) @ rng.normal(size=(2, 6)) + 0.5 * rng.normal(size=(rows, 6))
    topics, shares = rng.dirichlet(np.full(30, 0.2), 4), rng.dirichlet(np.full(4, 0.4), few)
    counts = np.stack([rng.multinomial(40, s @ topics) for s in shares])
    doc, word = np.nonzero(counts)
    tokens = np.repeat(np.stack([doc, word], 1), counts[doc, word], 0)
    tokens = tokens[rng.permutation(len(tokens))]
    length = int((counts > 0).sum(1).max())
    words, numbers = np.zeros((few, length), int), np.zeros((few, length))
    for d, row in enumerate(counts):
        found = np.flatnonzero(row)
        words[d, : len(found)], numbers[d, : len(found)] = found, row[found]
    probabilities = rng.beta(0.5, 0.5, (3, 8))
    y = (rng.random((rows, 8)) < probabilities[rng.integers(0, 3, rows)]) * 1
    groups = rng.normal(2.0, 1.5, (few, 1)) + 0.7 * rng.normal(size=(few, 4))
    states = np.where(rng.random((few, 5)) < 0.2, 1, 0).cumsum(1) % 2
    rates = rng.gamma(1, 1, (few, 3)) @ rng.gamma(1, 1, (3, 10))
    return {
        "mixture": (mixture, {"x": x, "K": 4}),
        "mixture_overlapping": (mixture, {"x": close, "K": 4}),
        "mixture_full": (full_mixture, {"x": x, "K": 4}),
        "ppca": (ppca, {"x": factors, "M": 2}),
        "lda_tokens": (lda_tokens, {"doc": tokens[:, 0], "word": tokens[:, 1], "D": few, "V": 30, "K": 4}),
        "lda_counts": (lda_documents, {"words": words, "counts": numbers, "V": 30, "K": 4}),
        "latent_classes": (latent_classes, {"y": y, "K": 3}),
        "hierarchical": (hierarchical, {"y": groups}),
        "chains": (chains, {"x": np.where(states, 2.0, -1.0) + rng.normal(size=(few, 5)), "K": 2}),
        "poisson_factors": (poisson_factors, {"y": rng.poisson(rates) * 1.0, "K": 3}),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--restarts", type=int)
    given = parser.parse_args()
    print(f"{'model':<22}{'seed':>5}{'gap / row':>12}  {'cavi s':>7}{'svi s':>7}  status of svi")
    for name, (model, data) in cases(given.rows).items():
        if given.models and name not in given.models:
            continue
        clock = time.process_time()
        best = jn.fit(model, data, jn.cavi(restarts=given.restarts))
        spent = time.process_time() - clock
        for seed in range(given.seeds):
            clock = time.process_time()
            fit = jn.fit(model, data, "svi", seed=seed)
            gap = (best.elbo.value - fit.elbo.value) / len(next(iter(data.values())))
            mark = "  " if gap < TARGET else " *"
            took = time.process_time() - clock
            print(f"{name:<22}{seed:>5}{gap:>12.2e}{mark}{spent:>7.1f}{took:>7.1f}  {fit.status}", flush=True)


if __name__ == "__main__":
    main()
