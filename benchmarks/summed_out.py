"""Gradients of models whose discrete latents are summed out, against the same densities written without them.

    python benchmarks/summed_out.py [--rows 10000] [--components 5]

A Gaussian mixture with an index z against NumPyro's MixtureSameFamily, and a hidden Markov model written as a scan over
z against a forward recursion by hand. Both sides are the gradient of the log density over the unconstrained space for
16 points in one compiled program; the time is the least of 20 processor times, alternating.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.contrib.control_flow import scan

from jensen._math.precision import working
from jensen._model import build

POINTS, REPEATS = 16, 20


def indexed(y, k):
    """A mixture with labels."""
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.ones(k)))
    mean = numpyro.sample("mean", dist.Normal(0.0, 5.0).expand([k]).to_event(1))
    with numpyro.plate("row", len(y)):
        z = numpyro.sample("z", dist.Categorical(weights))
        numpyro.sample("y", dist.Normal(mean[z], 1.0), obs=y)


def same_family(y, k):
    """The same without."""
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.ones(k)))
    mean = numpyro.sample("mean", dist.Normal(0.0, 5.0).expand([k]).to_event(1))
    with numpyro.plate("row", len(y)):
        mixture = dist.MixtureSameFamily(dist.Categorical(weights), dist.Normal(mean, 1.0))
        numpyro.sample("y", mixture, obs=y)


def chain(y, k):
    """A hidden Markov model with states."""
    rows = numpyro.sample("rows", dist.Dirichlet(jnp.ones((k, k))).to_event(1))
    mean = numpyro.sample("mean", dist.Normal(0.0, 5.0).expand([k]).to_event(1))

    def step(z, value):
        z = numpyro.sample("z", dist.Categorical(rows[z]))
        numpyro.sample("y", dist.Normal(mean[z], 1.0), obs=value)
        return z, None

    scan(step, 0, y)


def forward(y, k):
    """The same by its forward recursion."""
    rows = numpyro.sample("rows", dist.Dirichlet(jnp.ones((k, k))).to_event(1))
    mean = numpyro.sample("mean", dist.Normal(0.0, 5.0).expand([k]).to_event(1))
    emitted = dist.Normal(mean, 1.0).log_prob(y[:, None])
    logs = jnp.log(rows)

    def step(alpha, own):
        return jax.nn.logsumexp(alpha[:, None] + logs, axis=0) + own, None

    alpha, _ = jax.lax.scan(step, logs[0] + emitted[0], emitted[1:])
    numpyro.factor("y", jax.nn.logsumexp(alpha))


def gradient_of(target):
    """A compiled function of points, (POINTS, D)."""
    run = jax.jit(jax.vmap(jax.value_and_grad(lambda u: target.model.log_density(u))))
    return lambda points: jax.block_until_ready(run(points))


def main():
    """Print one line for each pair."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--components", type=int, default=5)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    y = rng.normal(size=options.rows) + 3.0 * rng.integers(0, options.components, size=options.rows)
    data = {"y": y, "k": options.components}
    print(f"{'model':12s}{'summed out':>14s}{'by hand':>14s}{'ratio':>8s}   ms a batch of {POINTS} gradients")
    for name, pair in {"mixture": (indexed, same_family), "chain": (chain, forward)}.items():
        targets = [build(model, data, "double") for model in pair]
        points = 0.3 * rng.normal(size=(POINTS, targets[0].dim))
        with working("double"):
            runs = [gradient_of(target) for target in targets]
            values = [np.asarray(run(points)[0]) for run in runs]
            np.testing.assert_allclose(*values, rtol=1e-8)
            spent = [[], []]
            for _ in range(REPEATS):
                for index, run in enumerate(runs):
                    start = time.process_time()
                    run(points)
                    spent[index].append(time.process_time() - start)
        ours, theirs = (1e3 * min(s) for s in spent)
        print(f"{name:12s}{ours:14.2f}{theirs:14.2f}{ours / theirs:8.2f}", flush=True)


if __name__ == "__main__":
    main()
