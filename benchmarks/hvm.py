"""Hierarchical variational models on enumerable posteriors: KL(q ‖ p) in nats against the best product.

    python benchmarks/hvm.py [--seeds 5] [--only NAME]

Every target is tabulated, so KL(q ‖ p) is a sum over its states with q(z) averaged over 2·10⁵ draws of λ, and the
floor of mean field is found by coordinate ascent on the table from many starts. Budgets are fixed: the method's own
stopping rule, at most 30 000 steps. Medians over seeds.
"""

import argparse
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from scipy import special, stats

import jensen as jn
from jensen.algorithms.blackbox import table as tables
from jensen.families.native import Poisson
from jensen.math.precision import working

TWO = np.array([[0.1, 0.4], [0.4, 0.1]])
THREE = np.array([[[0.03, 0.06], [0.06, 0.12]], [[0.06, 0.12], [0.12, 0.43]]])
RATES = np.array([[1.0, 0.1, 8.0, 10.0], [1.0, 12.0, 0.1, 10.0]])
SHARES = np.array([0.1, 0.1, 0.1, 0.7])


def bits(log_p):
    """Any table over bits as a model with log evidence zero."""
    count = log_p.ndim
    with numpyro.plate("bit", count):
        z = numpyro.sample("z", dist.Bernoulli(0.5))
    numpyro.factor("table", jnp.asarray(log_p)[tuple(z[i] for i in range(count))] + count * np.log(2.0))


def counts(log_rates, log_shares):
    """The Poisson mixture; the vague prior on z is divided out again."""
    with numpyro.plate("count", 2):
        z = numpyro.sample("z", dist.Poisson(8.0))
    each = dist.Poisson(jnp.exp(log_rates).T).log_prob(z).sum(-1)
    numpyro.factor("mixture", jax.nn.logsumexp(log_shares + each) - dist.Poisson(8.0).log_prob(z).sum())


def noisy_or(causes=8, findings=6, seed=3):
    """p(causes | findings) with leak .02, priors .2 and random strengths; four findings are present."""
    rng = np.random.default_rng(seed)
    strength = np.log1p(-rng.uniform(0.4, 0.95, size=(findings, causes)) * (rng.uniform(size=(findings, causes)) < 0.5))
    states = np.array(list(np.ndindex(*(2,) * causes)))
    absent = np.log(0.98) + states @ strength.T
    present = np.arange(findings) < 4
    log_p = np.where(present, np.log1p(-np.exp(absent)), absent).sum(axis=1)
    log_p += (states * np.log(0.2) + (1 - states) * np.log(0.8)).sum(axis=1)
    return (log_p - special.logsumexp(log_p)).reshape((2,) * causes)


def ising(side=3, coupling=0.5, field=0.1):
    """A square grid of ±1 spins."""
    states = np.array(list(np.ndindex(*(2,) * side**2)))
    spins = (2 * states - 1).reshape(-1, side, side)
    pairs = (spins[:, 1:] * spins[:, :-1]).sum((1, 2)) + (spins[:, :, 1:] * spins[:, :, :-1]).sum((1, 2))
    log_p = coupling * pairs + field * spins.sum((1, 2))
    return (log_p - special.logsumexp(log_p)).reshape((2,) * side**2)


def poisson_table():
    """Log masses of the Poisson mixture on 45 x 45 counts."""
    grid = np.arange(45)
    parts = stats.poisson.logpmf(grid[:, None, None], RATES[0]) + stats.poisson.logpmf(grid[None, :, None], RATES[1])
    return special.logsumexp(parts + np.log(SHARES), axis=-1)


def floor(log_p):
    """The least KL of a product, in nats."""
    return -tables.ascend(log_p, np.random.default_rng(0)).bounds[0]


@eqx.filter_jit
def _masses(q, states, keys):
    def one(key):
        product = q.given(q.mix(key).value)
        return jax.vmap(lambda s: jnp.exp(product.log_prob({"z": s})))(states)

    def block(keys):
        return jax.vmap(one)(keys).mean(axis=0)

    return jax.lax.map(block, keys.reshape(-1, 200)).mean(axis=0)


def divergence(q, log_p, count=200_000):
    """KL(q ‖ p) by enumeration."""
    states = jnp.asarray(np.array(list(np.ndindex(*log_p.shape))))
    with working("double"):
        mass = np.asarray(_masses(q, states, jax.random.split(jax.random.key(1), count)))
    mass = np.maximum(mass / mass.sum(), 1e-300)
    return float(mass @ (np.log(mass) - log_p.ravel()))


def poisson_model(seed):
    """(model, data, options) with Poisson factors."""
    del seed
    families = {"z": Poisson(jnp.log(jnp.array([6.0, 6.0])))}
    return counts, {"log_rates": np.log(RATES), "log_shares": np.log(SHARES)}, {"families": families}


def table_model(log_p):
    """(model, data, options) of a table over bits."""
    return lambda seed: (bits, {"log_p": log_p}, {})


def cases():
    """Name -> (model, table, options, the most that KL may be)."""
    two, three, nor, grid, mixture = np.log(TWO), np.log(THREE), noisy_or(), ising(), poisson_table()
    eight = {"num_components": 8}
    return {
        "2 bits, mixture prior": (table_model(two), two, {"prior": "mixture"}, 0.01),
        "2 bits, flow prior": (table_model(two), two, {"prior": "flow"}, 0.03),
        "3 bits, mixture prior": (table_model(three), three, {"prior": "mixture"}, 0.003),
        "Poisson mixture": (poisson_model, mixture, {"prior": "mixture", **eight}, 0.05),
        "8-bit noisy-OR": (table_model(nor), nor, {"prior": "mixture", **eight}, 0.2 * floor(nor)),
        "3 x 3 Ising": (table_model(grid), grid, {"prior": "mixture", **eight}, 0.2 * floor(grid)),
    }


def main():
    """Every target, one line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    print(f"{'target':<24}{'mean field':>11}{'KL median':>11}{'worst':>9}{'at most':>9}{'bound':>9}{'CPU s':>8}")
    for name, (model, log_p, options, most) in cases().items():
        if args.only not in name:
            continue
        found, bounds, seconds = [], [], []
        for seed in range(args.seeds):
            fn, data, extra = model(seed)
            start = time.process_time()
            fit = jn.fit(fn, data, jn.hvm(**options, **extra), seed=seed)
            seconds.append(time.process_time() - start)
            found.append(divergence(fit.q, log_p))
            bounds.append(fit.elbo.value)
        middle = float(np.median(found))
        print(
            f"{name:<24}{floor(log_p):>11.4f}{middle:>11.4f}{max(found):>9.4f}{most:>9.4f}{np.median(bounds):>9.4f}"
            f"{np.median(seconds):>8.0f}  {'reached' if middle <= most else 'MISSED'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
