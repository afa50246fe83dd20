"""A variational autoencoder of handwritten digits: jensen's amortised inference against NumPyro's SVI with Adam.

    python benchmarks/vae.py [--epochs 200 --seeds 3 --particles 1]

The same networks, the same number of passes over the same rows, single precision, one process; what is compared is the
importance-weighted bound of held-out rows (500 draws, one function for both) and the wall and CPU time of the fit,
compilation included. The peer is what its documentation shows: Adam at 1e-3, minibatches of 128, one draw, all in one
scan. Which comes first alternates with the seed, and JAX has been started before: only the first two fits compile what
later ones of the same kind find again.
"""

import argparse
import json
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.scipy.special import logsumexp
from numpyro.contrib.module import eqx_module
from numpyro.infer import SVI, Trace_ELBO
from sklearn.datasets import load_digits

import jensen as jn

LATENT, HIDDEN, BATCH, DRAWS = 8, 128, 128, 500


def rows(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Binarised digits, four fifths of them for the fit."""
    x = (load_digits().data > 8).astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(x))
    return x[order[: 4 * len(x) // 5]], x[order[4 * len(x) // 5 :]]


def networks(seed: int) -> tuple[eqx.nn.MLP, eqx.nn.MLP]:
    """Encoder and decoder, one hidden layer each."""
    first, second = jax.random.split(jax.random.key(seed))
    return eqx.nn.MLP(64, 2 * LATENT, HIDDEN, 1, key=first), eqx.nn.MLP(LATENT, 64, HIDDEN, 1, key=second)


def model_of(decoder: eqx.nn.MLP):
    """The model as a user writes it."""

    def model(x):
        net = eqx_module("decoder", decoder)
        with numpyro.plate("row", len(x)):
            z = numpyro.sample("z", dist.Normal(0, 1).expand([LATENT]).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=jax.vmap(net)(z)).to_event(1), obs=x)

    return model


@eqx.filter_jit
def test_bound(encoder, decoder, x, key):
    """The importance-weighted bound of held-out rows, nats a row."""

    def one(row, key):
        loc, log_sd = jnp.split(encoder(row), 2)
        z = loc + jnp.exp(log_sd) * jax.random.normal(key, (DRAWS, LATENT))
        log_q = dist.Normal(loc, jnp.exp(log_sd)).log_prob(z).sum(-1)
        log_p = dist.Normal(0, 1).log_prob(z).sum(-1)
        logits = jax.vmap(decoder)(z)
        log_p = log_p + dist.Bernoulli(logits=logits).log_prob(row).sum(-1)
        return logsumexp(log_p - log_q) - jnp.log(DRAWS)

    return jnp.mean(jax.lax.map(lambda item: one(*item), (x, jax.random.split(key, len(x))), batch_size=32))


def as_jax(module):
    """The module with JAX arrays."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, module)


def ours(train, epochs: int, seed: int, particles: int) -> tuple:
    """(encoder, decoder, wall and CPU seconds, epochs used)."""
    encoder, decoder = networks(seed)
    bound = jn.ELBO() if particles == 1 else jn.ImportanceWeighted(particles)
    method = jn.amortised(encoder, max_epochs=epochs, batch_size=BATCH, bound=bound)
    watch, cpu = time.perf_counter(), time.process_time()
    fit = jn.fit(model_of(decoder), {"x": train}, method, seed=seed, precision="single")
    seconds, cpu = time.perf_counter() - watch, time.process_time() - cpu
    return (
        as_jax(fit.q.encoder.module),
        as_jax(fit.estimates.into("decoder", decoder)),
        (seconds, cpu),
        fit.outcome.certificate["epochs"],
    )


def peer(train, epochs: int, seed: int, particles: int) -> tuple:
    """The same by NumPyro."""
    encoder, decoder = networks(seed)
    size = len(train)

    def model(x):
        net = eqx_module("decoder", decoder)
        with numpyro.plate("row", size, subsample_size=BATCH):
            z = numpyro.sample("z", dist.Normal(0, 1).expand([LATENT]).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=jax.vmap(net)(z)).to_event(1), obs=x)

    def guide(x):
        net = eqx_module("encoder", encoder)
        with numpyro.plate("row", size, subsample_size=BATCH):
            loc, log_sd = jnp.split(jax.vmap(net)(x), 2, axis=-1)
            numpyro.sample("z", dist.Normal(loc, jnp.exp(log_sd)).to_event(1))

    if particles == 1:
        loss = Trace_ELBO()
    else:
        from numpyro.infer import RenyiELBO

        loss = RenyiELBO(alpha=0.0, num_particles=particles)
    watch, cpu = time.perf_counter(), time.process_time()
    svi = SVI(model, guide, numpyro.optim.Adam(1e-3), loss)
    data, steps = jnp.asarray(train), size // BATCH
    state = svi.init(jax.random.key(seed), data[:BATCH])

    @jax.jit
    def train_all(state, orders):
        return jax.lax.scan(lambda s, index: svi.update(s, data[index]), state, orders)

    rng = np.random.default_rng(seed)
    orders = np.concatenate([rng.permutation(size)[: steps * BATCH].reshape(steps, BATCH) for _ in range(epochs)])
    state, _ = train_all(state, orders)
    values = jax.block_until_ready(svi.get_params(state))
    seconds, cpu = time.perf_counter() - watch, time.process_time() - cpu

    def whole(name, module):
        return eqx.combine(values[f"{name}$params"], eqx.partition(module, eqx.is_inexact_array)[1])

    return whole("encoder", encoder), whole("decoder", decoder), (seconds, cpu), float(epochs)


def main() -> None:
    """One line of JSON for each seed and method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--particles", type=int, default=1)
    arguments = parser.parse_args()
    jax.block_until_ready(jax.jit(lambda x: x @ x.T)(jnp.ones((8, 8))))
    for seed in range(arguments.seeds):
        train, held_out = rows(seed)
        order = (("jensen", ours), ("numpyro", peer))
        for name, run in order[:: 1 if seed % 2 else -1]:
            encoder, decoder, (seconds, cpu), epochs = run(train, arguments.epochs, seed, arguments.particles)
            bounds = {
                part: round(float(test_bound(encoder, decoder, jnp.asarray(x), jax.random.key(7))), 3)
                for part, x in (("held_out", held_out), ("train", train))
            }
            line = {"method": name, "seed": seed, "seconds": round(seconds, 2), "cpu": round(cpu, 2), "epochs": epochs}
            print(json.dumps({**line, **bounds}), flush=True)


if __name__ == "__main__":
    main()
