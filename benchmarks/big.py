"""Models with many latents: CPU seconds of a default fit with its check, the verdict, and hyperparameters against NUTS.

    python benchmarks/big.py                 every model at its sizes
    python benchmarks/big.py counts 2000     one model at one size

--nuts adds NumPyro NUTS, 500 + 500, in the same run; --peers R's lme4 or glmmTMB where they are installed.

Each fit runs in a process of its own, compilation and verdict included, and the table of all latents besides. Threads
of BLAS that wait count as CPU seconds: OPENBLAS_NUM_THREADS=1 where other work is beside. D is how many latents there
are, GB the most memory that the process held. After several sizes of a model the growth exponents of its CPU seconds
and memory in D are printed: over all sizes (least squares of logarithms), and from the last but one to the last, where
what every fit costs counts least.
"""

import argparse
import re
import resource
import subprocess
import sys
import time

import big_crossed
import big_peers
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.contrib.control_flow import scan


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


def volatility(size):
    """Returns whose log variance walks at random."""
    rng = np.random.default_rng(1)
    y = np.exp(0.5 * np.cumsum(0.1 * rng.normal(size=size))) * rng.normal(size=size)

    def model(y=None):
        s = numpyro.sample("s", dist.HalfNormal(0.5))
        h = numpyro.sample("h", dist.GaussianRandomWalk(s, size))
        numpyro.sample("y", dist.Normal(0, jnp.exp(h / 2)).to_event(1), obs=y)

    return model, {"y": y}, ["s"]


def innovations(size):
    """The same returns, the walk written as the cumulative sum of independent steps."""
    data = volatility(size)[1]

    def model(y=None):
        s = numpyro.sample("s", dist.HalfNormal(0.5))
        z = numpyro.sample("z", dist.Normal(0, 1).expand([size]).to_event(1))
        numpyro.sample("y", dist.Normal(0, jnp.exp(s * jnp.cumsum(z) / 2)).to_event(1), obs=y)

    return model, data, ["s"]


def level(size):
    """Counts whose log rate walks at random, by a scan."""
    rng = np.random.default_rng(1)
    y = rng.poisson(np.exp(1 + np.cumsum(0.1 * rng.normal(size=size))))

    def model(y=None):
        s = numpyro.sample("s", dist.HalfNormal(0.5))

        def step(h, count):
            h = numpyro.sample("h", dist.Normal(h, s))
            numpyro.sample("y", dist.Poisson(jnp.exp(1 + h)), obs=count)
            return h, None

        scan(step, 0.0, y, length=size)

    return model, {"y": y}, ["s"]


def map_of_counts(size):
    """Poisson counts on a square map: an intrinsic field, and an effect of each place."""
    rng = np.random.default_rng(1)
    index = np.arange(size * size).reshape(size, size)
    down, right = (index[:-1].ravel(), index[1:].ravel()), (index[:, :-1].ravel(), index[:, 1:].ravel())
    ends = np.concatenate([down, right], axis=1)
    waves = np.cos(np.arange(size) / size * 5.0)
    x = rng.normal(size=size * size)
    y = rng.poisson(np.exp(1 + 0.5 * x + 0.4 * np.add.outer(waves, waves).ravel()))

    def model(x, ends, y=None):
        b0, b1 = numpyro.sample("b0", dist.Normal(0, 3)), numpyro.sample("b1", dist.Normal(0, 3))
        sd, own = numpyro.sample("sd", dist.HalfNormal(1)), numpyro.sample("own", dist.HalfNormal(1))
        with numpyro.plate("place", size * size):
            phi = numpyro.sample("phi", dist.ImproperUniform(dist.constraints.real, (), ()))
            v = numpyro.sample("v", dist.Normal(0, 1))
        smooth = -0.5 * jnp.sum((phi[ends[0]] - phi[ends[1]]) ** 2)
        numpyro.factor("smooth", smooth + dist.Normal(0, 0.001 * size**2).log_prob(phi.sum()))
        with numpyro.plate("place", size * size):
            numpyro.sample("y", dist.Poisson(jnp.exp(b0 + b1 * x + sd * phi + own * v)), obs=y)

    return model, {"x": x, "ends": ends, "y": y}, ["b0", "b1", "sd", "own"]


def bym2(size):
    """The same counts with one effect of each place: part smooth, scaled to variance one, and part its own."""
    data = dict(map_of_counts(size)[1])
    data["scale"] = _typical_variance(data["ends"], size * size)

    def model(x, ends, scale, y=None):
        b0, b1 = numpyro.sample("b0", dist.Normal(0, 3)), numpyro.sample("b1", dist.Normal(0, 3))
        sigma, rho = numpyro.sample("sigma", dist.HalfNormal(1)), numpyro.sample("rho", dist.Beta(0.5, 0.5))
        with numpyro.plate("place", size * size):
            phi = numpyro.sample("phi", dist.ImproperUniform(dist.constraints.real, (), ()))
            theta = numpyro.sample("theta", dist.Normal(0, 1))
        smooth = -0.5 * jnp.sum((phi[ends[0]] - phi[ends[1]]) ** 2)
        numpyro.factor("smooth", smooth + dist.Normal(0, 0.001 * size**2).log_prob(phi.sum()))
        effect = sigma * (jnp.sqrt(rho / scale) * phi + jnp.sqrt(1 - rho) * theta)
        with numpyro.plate("place", size * size):
            numpyro.sample("y", dist.Poisson(jnp.exp(b0 + b1 * x + effect)), obs=y)

    return model, data, ["b0", "b1", "sigma", "rho"]


def _typical_variance(ends, places):
    """Geometric mean of the variances of an intrinsic field with sum zero (Riebler, Sørbye, Simpson and Rue 2016)."""
    side = int(np.sqrt(places))
    steps = 2.0 - 2.0 * np.cos(np.pi * np.arange(side) / side)  # eigenvalues of a path; those of the grid are sums
    waves = np.cos(np.pi * np.outer(np.arange(side) + 0.5, np.arange(side)) / side) ** 2
    shares = waves / waves.sum(axis=0)
    values = np.add.outer(steps, steps)
    inverse = np.divide(1.0, values, where=values > 0.0, out=np.zeros_like(values))
    assert len(ends[0]) == 2 * side * (side - 1)
    return float(np.exp(np.mean(np.log(shares @ inverse @ shares.T))))


def process(size):
    """Binary rows, a Gaussian process of unknown length and height."""
    rng = np.random.default_rng(1)
    x = np.sort(rng.uniform(0, 10, size))
    p = 1 / (1 + np.exp(-2 * (np.sin(x) + 0.5 * np.sin(3 * x))))
    y = (rng.random(size) < p).astype(int)

    def model(squares, y=None):
        height, length = numpyro.sample("height", dist.HalfNormal(2)), numpyro.sample("length", dist.LogNormal(0, 0.5))
        kernel = height**2 * jnp.exp(-0.5 * squares / length**2) + 1e-5 * jnp.eye(size)
        with numpyro.plate("row", size):
            z = numpyro.sample("z", dist.Normal(0, 1))
            numpyro.sample("y", dist.Bernoulli(logits=jnp.linalg.cholesky(kernel) @ z), obs=y)

    return model, {"squares": (x[:, None] - x) ** 2, "y": y}, ["height", "length"]


MODELS = {
    "counts": (counts, (100, 500, 2000, 10_000, 100_000)),
    "slopes": (slopes, (50, 200, 1000, 10_000)),
    "volatility": (volatility, (100, 1000, 20_000)),
    "innovations": (innovations, (100, 1000, 20_000)),
    "level": (level, (100, 1000, 20_000)),
    "map": (map_of_counts, (10, 32, 100)),
    "bym2": (bym2, (10, 32, 100)),
    "process": (process, (100, 500)),
    **big_crossed.MODELS,
}

SHOWN = 8
"""Entries of the hyperparameters that are printed."""


def one(name: str, size: int, nuts: bool, peers: bool = False) -> None:
    """Fit, check and print one row."""
    import jensen as jn

    try:
        model, data, names = MODELS[name][0](size)
    except FileNotFoundError as error:
        print(f"{name:10} {size:7,}  skipped: there is no {error.filename}; INSTEVAL names it.", flush=True)
        return
    began = time.process_time()
    fit = jn.fit(model, data, progress=False)
    fitted = time.process_time()
    verdict = fit.check().verdict
    checked = time.process_time()
    table = fit.summary(names)
    fit.summary()
    told = time.process_time()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    entries = [n for n in table.index if n.split("[")[0] in names][:SHOWN]
    shown = ", ".join(f"{n} {table.loc[n, 'mean']:.3f} ± {table.loc[n, 'sd']:.3f}" for n in entries)
    times = f"fit {fitted - began:5.1f}  check {checked - fitted:4.1f}  summary {told - checked:5.1f} CPU s"
    dim = sum(site.size for site in fit.structure.latents + fit.structure.conditional)
    times = f"D {dim:7,}  {times}  {memory:.2f} GB"
    print(f"{name:10} {size:7,}  {times}  {verdict:9}  {shown}", flush=True)
    if peers:
        big_peers.run(name, data)
    if nuts:
        _nuts(model, data, names)


def _nuts(model, data, names) -> None:
    import jax
    from numpyro.infer import MCMC, NUTS

    began = time.process_time()
    mcmc = MCMC(NUTS(model), num_warmup=500, num_samples=500, progress_bar=False)
    mcmc.run(jax.random.key(0), **data)
    draws = mcmc.get_samples()
    flat = {n: np.asarray(draws[n]).reshape(len(draws[n]), -1) for n in names}
    entries = [(n, i) for n in names for i in range(flat[n].shape[1])][:SHOWN]
    shown = ", ".join(f"{n}[{i}] {flat[n][:, i].mean():.3f} ± {flat[n][:, i].std():.3f}" for n, i in entries)
    print(f"{'':10} {'NUTS':>7}  {time.process_time() - began:5.1f} CPU s  {shown}", flush=True)


ROW = re.compile(r"D +([\d,]+)  fit +([\d.]+)  check +([\d.]+)  summary +([\d.]+) CPU s  ([\d.]+) GB")


def growth(name: str, rows: list[str]) -> None:
    """Print the exponents of what rows of several sizes say."""
    found = [re.search(ROW, row) for row in rows]
    table = np.array([[float(one.replace(",", "")) for one in row.groups()] for row in found if row])
    if len(table) < 2:
        return
    dim, columns = np.log(table[:, 0]), {"fit and check": table[:, 1:3].sum(axis=1), "memory": table[:, 4]}
    told = []
    for what, values in columns.items():
        logs = np.log(values)
        last = (logs[-1] - logs[-2]) / (dim[-1] - dim[-2])
        told.append(f"{what} D^{np.polyfit(dim, logs, 1)[0]:.2f}, last two D^{last:.2f}")
    print(f"{name:10} growth: {'; '.join(told)}", flush=True)


def main() -> None:
    """Every model, or the one that is named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", nargs="?", choices=MODELS)
    parser.add_argument("size", nargs="?", type=int)
    parser.add_argument("--nuts", action="store_true")
    parser.add_argument("--peers", action="store_true")
    given = parser.parse_args()
    if given.name and given.size is not None:
        one(given.name, given.size, given.nuts, given.peers)
        return
    for name, (_, sizes) in MODELS.items():
        if given.name in (None, name):
            rows = []
            for size in sizes:
                more = [f"--{flag}" for flag in ("nuts", "peers") if getattr(given, flag)]
                told = subprocess.run(
                    [sys.executable, __file__, name, str(size), *more], check=True, stdout=subprocess.PIPE, text=True
                ).stdout
                print(told, end="", flush=True)
                rows.append(told)
            growth(name, rows)


if __name__ == "__main__":
    main()
