"""Gradient variance against NumPyro's TraceGraph_ELBO at equal draws, on models with discrete latents.

    python benchmarks/gradient_variance.py [--gradients 500] [--model mixture]

For each model q is the mean field that `bbvi` fits, flattened to its square root as it is half way through a fit (at
the end many labels are certain, and no draw sees what they would have to be compared on). NumPyro gets a guide with
exactly the same factors and values. Both gradients are taken in the leaves of the native factors, from the same number
of draws; the ratio is of summed variances, each coordinate in units of its Fisher information. The two means must
agree where the samples tell their errors.
"""

import argparse
import contextlib

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import TraceGraph_ELBO

import jensen as jn
from jensen._blackbox.recipes import chosen_estimator
from jensen._families import native
from jensen._math.precision import working
from jensen._model.native import native_target
from jensen.bounds import ELBO

DRAWS = 32


def mixture(y):
    """Three components, the labels latent."""
    weights = numpyro.sample("weights", dist.Dirichlet(2.0 * jnp.ones(3)))
    with numpyro.plate("component", 3):
        mean = numpyro.sample("mean", dist.Normal(0.0, 5.0))
    with numpyro.plate("row", len(y)):
        z = numpyro.sample("z", dist.Categorical(weights))
        numpyro.sample("y", dist.Normal(mean[z], 1.0), obs=y)


def belief_network(x, above, below):
    """A sigmoid belief network of two hidden layers with known weights, for each of several images."""
    with numpyro.plate("image", len(x), dim=-2):
        with numpyro.plate("top", above.shape[0], dim=-1):
            h2 = numpyro.sample("h2", dist.Bernoulli(0.5))
        with numpyro.plate("middle", above.shape[1], dim=-1):
            h1 = numpyro.sample("h1", dist.Bernoulli(logits=h2 @ above))
        with numpyro.plate("pixel", below.shape[1], dim=-1):
            numpyro.sample("x", dist.Bernoulli(logits=h1 @ below), obs=x)


def poisson_hierarchy(y):
    """Counts seen through noise, their rates drawn from a common distribution."""
    shape = numpyro.sample("shape", dist.Gamma(4.0, 2.0))
    with numpyro.plate("row", len(y)):
        rate = numpyro.sample("rate", dist.Gamma(shape, 0.4))
        count = numpyro.sample("count", dist.Poisson(rate))
        numpyro.sample("y", dist.Normal(count, 0.5), obs=y)


def cases(rng):
    """Model and data by name."""
    above, below = 2.0 * rng.normal(size=(3, 6)), 2.0 * rng.normal(size=(6, 12))
    return {
        "mixture": (mixture, {"y": np.concatenate([rng.normal(m, 1, 20) for m in (-2, 0, 2)])}),
        "sigmoid belief network": (
            belief_network,
            {"x": rng.integers(0, 2, size=(10, 12)), "above": above, "below": below},
        ),
        "Poisson hierarchy": (poisson_hierarchy, {"y": rng.poisson(5, 20) + 0.5 * rng.normal(size=20)}),
    }


def distribution(factor):
    """NumPyro's distribution of a native factor, differentiable in its leaves."""
    match factor:
        case native.Normal():
            return dist.Normal(factor.loc, jnp.exp(factor.log_scale))
        case native.Gamma():
            return dist.Gamma(jnp.exp(factor.log_shape), jnp.exp(factor.log_shape - factor.log_mean))
        case native.Dirichlet():
            return dist.Dirichlet(jnp.exp(factor.log_total)[..., None] * factor.mean())
        case native.Bernoulli():
            return dist.BernoulliLogits(factor.logit)
        case native.Categorical():
            return dist.CategoricalLogits(factor.logits)
        case native.NegativeBinomial():
            return dist.NegativeBinomial2(jnp.exp(factor.log_mean), jnp.exp(factor.log_shape))
    raise TypeError(type(factor).__name__)


def guide_of(target):
    """A guide with the factors of q, its plates those of the model."""
    plates = {p.name: p for site in target.structure.latents for p in site.plates}

    def guide(q, **data):
        made = {name: numpyro.plate(name, plate.size, dim=plate.dim) for name, plate in plates.items()}
        for site in target.structure.latents:
            with contextlib.ExitStack() as stack:
                for plate in site.plates:
                    stack.enter_context(made[plate.name])
                numpyro.sample(site.name, distribution(q.factors[site.name]))

    return guide


def peer(model, data, target, q, count, seed):
    """Gradients of NumPyro's estimator, (count, ...)."""
    elbo, guide = TraceGraph_ELBO(num_particles=DRAWS), guide_of(target)

    def one(key):
        def loss(q):
            return -elbo.loss(key, {}, lambda q: model(**data), guide, q)

        return jax.grad(loss)(q)

    return jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=10))(jr.split(jr.key(seed), count))


def ours(estimator, target, q, count, seed):
    """Gradients of jensen's estimator, (count, ...)."""

    def one(key):
        return jax.grad(lambda q: estimator(ELBO(), target.model, q, None, key))(q)

    return jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=10))(jr.split(jr.key(seed), count))


def agreement(a, b, information, discrete):
    """Largest |z| of two estimates' means, and the coordinates compared: those whose error both samples can tell.

    Where a label of small probability was hardly ever drawn, a sample knows neither the mean of its score gradient nor
    the error. Its information p (1 - p) times the draws counts the draws that told, and 1000 of them are asked for.
    """
    flat = np.concatenate([np.asarray(leaf).reshape(-1) for leaf in jax.tree.leaves(information)])
    known = flat * DRAWS * len(a) > 1000 if discrete else np.ones(flat.shape, bool)
    error = np.sqrt(sum(g.var(axis=0, ddof=1) / len(g) for g in (a, b)))
    z = np.abs(a.mean(axis=0) - b.mean(axis=0)) / np.maximum(error, 1e-300)
    return float(z[known].max(initial=0.0)), f"{known.sum()}/{known.size}"


def whitened(gradients, information):
    """(count, coordinates), each coordinate over the root of its Fisher information."""
    scale = [np.sqrt(np.maximum(np.asarray(f), 1e-12)) for f in jax.tree.leaves(information)]
    leaves = [np.asarray(g) / s for g, s in zip(jax.tree.leaves(gradients), scale, strict=True)]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


def main():
    """Print one line for each model and factor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gradients", type=int, default=500)
    parser.add_argument("--model", default="")
    options = parser.parse_args()
    count = options.gradients
    head = f"{'jensen':>12s}{'TraceGraph':>12s}{'ratio':>10s}{'max |z|':>9s}{'compared':>10s}"
    print(f"{'model':24s}{'factor':10s}{head}   {DRAWS} draws")
    for name, (model, data) in cases(np.random.default_rng(0)).items():
        if options.model not in name:
            continue
        fit = jn.fit(model, data, jn.bbvi(num_draws=DRAWS, max_steps=4000))
        with working("double"):
            target = native_target(model, data, "double")
            q = native.Product({n: f.tempered(0.5) for n, f in jax.tree.map(jnp.asarray, fit.q).factors.items()})
            values = {k: jnp.asarray(v) for k, v in data.items()}
            links = target.links({name: factor.rows for name, factor in q.factors.items()})
            estimator = chosen_estimator(target, q, links, DRAWS, jr.key(0))
            mine, theirs = ours(estimator, target, q, count, 1), peer(model, values, target, q, count, 2)
            for factor in q.factors:
                information = q.factors[factor].information()
                own, other = (whitened(g.factors[factor], information) for g in (mine, theirs))
                first, second = own.var(axis=0, ddof=1).sum(), other.var(axis=0, ddof=1).sum()
                z, compared = agreement(own, other, information, q.factors[factor].support() is not None)
                line = f"{name:24s}{factor:10s}{first:12.3g}{second:12.3g}{second / first:10.3g}{z:9.2f}{compared:>10s}"
                print(line, flush=True)


if __name__ == "__main__":
    main()
