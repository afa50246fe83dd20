"""Models with many latents: CPU seconds of a default fit with its check, the verdict, and hyperparameters against NUTS.

    python benchmarks/big.py                 every model at its smaller sizes
    python benchmarks/big.py counts 2000     one model at one size; --nuts adds NumPyro NUTS, 500 + 500, in the same run

Each fit runs in a process of its own, compilation and verdict included.
"""

import argparse
import resource
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist


def counts(size):
    """Poisson rows, one effect each."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=size)
    y = rng.poisson(np.exp(0.5 + 0.7 * x + 0.5 * rng.normal(size=size)))

    def model(x, y=None):
        b0, b1 = numpyro.sample("b0", dist.Normal(0, 3)), numpyro.sample("b1", dist.Normal(0, 3))
        sd = numpyro.sample("sd", dist.HalfNormal(1))
        with numpyro.plate("row", len(x)):
            u = numpyro.sample("u", dist.Normal(0, sd))
            numpyro.sample("y", dist.Poisson(jnp.exp(b0 + b1 * x + u)), obs=y)

    return model, {"x": x, "y": y}, ["b0", "b1", "sd"]


def slopes(size):
    """Logistic rows, twenty a group, with an intercept and a slope for each group."""
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(size), 20)
    x = rng.normal(size=20 * size)
    a, c = 0.6 * rng.normal(size=size), 0.3 * rng.normal(size=size)
    y = (rng.random(20 * size) < 1 / (1 + np.exp(-(0.3 + 0.8 * x + a[group] + c[group] * x)))).astype(int)

    def model(x, group, y=None):
        b0, b1 = numpyro.sample("b0", dist.Normal(0, 3)), numpyro.sample("b1", dist.Normal(0, 3))
        s0, s1 = numpyro.sample("s0", dist.HalfNormal(1)), numpyro.sample("s1", dist.HalfNormal(1))
        with numpyro.plate("groups", size):
            a, c = numpyro.sample("a", dist.Normal(0, s0)), numpyro.sample("c", dist.Normal(0, s1))
        with numpyro.plate("row", len(x)):
            numpyro.sample("y", dist.Bernoulli(logits=b0 + a[group] + (b1 + c[group]) * x), obs=y)

    return model, {"x": x, "group": group, "y": y}, ["b0", "b1", "s0", "s1"]


MODELS = {"counts": (counts, (100, 500, 2000)), "slopes": (slopes, (50, 200))}


def one(name: str, size: int, nuts: bool) -> None:
    """Fit, check and print one row."""
    import jensen as jn

    model, data, names = MODELS[name][0](size)
    began = time.process_time()
    fit = jn.fit(model, data, progress=False)
    fitted = time.process_time()
    verdict = fit.check().verdict
    checked = time.process_time()
    table = fit.summary(names)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    shown = ", ".join(f"{n} {table.loc[n, 'mean']:.3f} ± {table.loc[n, 'sd']:.3f}" for n in names)
    times = f"fit {fitted - began:5.1f}  check {checked - fitted:5.1f} CPU s  {memory:.1f} GB"
    print(f"{name:8} {size:7,}  {times}  {verdict:9}  {shown}", flush=True)
    if nuts:
        _nuts(model, data, names)


def _nuts(model, data, names) -> None:
    import jax
    from numpyro.infer import MCMC, NUTS

    began = time.process_time()
    mcmc = MCMC(NUTS(model), num_warmup=500, num_samples=500, progress_bar=False)
    mcmc.run(jax.random.key(0), **data)
    draws = mcmc.get_samples()
    shown = ", ".join(f"{n} {draws[n].mean():.3f} ± {draws[n].std():.3f}" for n in names)
    print(f"{'':8} {'NUTS':>7}  {time.process_time() - began:5.1f} CPU s  {shown}", flush=True)


def main() -> None:
    """Every model, or the one that is named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", nargs="?", choices=MODELS)
    parser.add_argument("size", nargs="?", type=int)
    parser.add_argument("--nuts", action="store_true")
    given = parser.parse_args()
    if given.name and given.size:
        one(given.name, given.size, given.nuts)
        return
    for name, (_, sizes) in MODELS.items():
        if given.name in (None, name):
            for size in sizes:
                more = ["--nuts"] if given.nuts else []
                subprocess.run([sys.executable, __file__, name, str(size), *more], check=True)


if __name__ == "__main__":
    main()
