"""Ordinary hierarchical models, centred as people write them: a default fit with its check against long NUTS.

    python benchmarks/hierarchical.py [NAME ...] [--seeds 3] [--references FOLDER] [--only-references]

The reference is NumPyro's NUTS, 4 chains of 1,000 + 2,000, non-centred where that samples better, kept in FOLDER. A
fit passes where every mean is within 0.3 sd of it and every ratio of sds within 0.7 to 1.4, of every scalar of every
site. Each fit runs in a process of its own; processor seconds with compilation and verdict, beside NUTS 500 + 500 on
the program as it is written.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.contrib.control_flow import scan


def _logistic(x):
    return 1 / (1 + np.exp(-x))


def slopes():
    """An intercept and two slopes for each of 85 groups, correlated (255 latents)."""
    rng, J = np.random.default_rng(11), 85
    group = np.sort(np.r_[np.arange(J), rng.integers(J, size=800)])
    x, z = rng.normal(size=len(group)), rng.binomial(1, 0.4, len(group))
    b = np.array([1.3, -0.6, 0.3]) + rng.normal(size=(J, 3)) @ np.diag([0.5, 0.3, 0.4])
    y = b[group, 0] + b[group, 1] * x + b[group, 2] * z + 0.7 * rng.normal(size=len(group))

    def model(x, z, group, y=None):
        mu = numpyro.sample("mu", dist.Normal(0, 2).expand([3]).to_event(1))
        sd = numpyro.sample("sd", dist.HalfNormal(1).expand([3]).to_event(1))
        corr = numpyro.sample("corr", dist.LKJCholesky(3, 2.0))
        sigma = numpyro.sample("sigma", dist.HalfNormal(2))
        with numpyro.plate("groups", J):
            b = numpyro.sample("b", dist.MultivariateNormal(mu, scale_tril=sd[:, None] * corr))
        with numpyro.plate("row", len(x)):
            at = b[group]
            numpyro.sample("y", dist.Normal(at[:, 0] + at[:, 1] * x + at[:, 2] * z, sigma), obs=y)

    def apart(x, z, group, y=None):
        mu = numpyro.sample("mu", dist.Normal(0, 2).expand([3]).to_event(1))
        sd = numpyro.sample("sd", dist.HalfNormal(1).expand([3]).to_event(1))
        corr = numpyro.sample("corr", dist.LKJCholesky(3, 2.0))
        sigma = numpyro.sample("sigma", dist.HalfNormal(2))
        with numpyro.plate("groups", J):
            e = numpyro.sample("e", dist.Normal(0, 1).expand([3]).to_event(1))
        at = numpyro.deterministic("b", mu + e @ (sd[:, None] * corr).T)[group]
        numpyro.sample("y", dist.Normal(at[:, 0] + at[:, 1] * x + at[:, 2] * z, sigma), obs=y)

    return model, {"x": x, "z": z, "group": group, "y": y}, apart


def seeds():
    """Germination on 20 plates: binomial counts with an effect for each plate."""
    rng = np.random.default_rng(12)
    kind, host, n = rng.integers(2, size=20), rng.integers(2, size=20), rng.integers(8, 60, size=20)
    y = rng.binomial(n, _logistic(-0.5 + 0.1 * kind + 1.2 * host - 0.8 * kind * host + 0.4 * rng.normal(size=20)))

    def model(kind, host, n, y=None):
        a = numpyro.sample("a", dist.Normal(0, 3).expand([4]).to_event(1))
        s = numpyro.sample("s", dist.HalfCauchy(1))
        with numpyro.plate("plates", len(n)):
            b = numpyro.sample("b", dist.Normal(0, s))
            logits = a[0] + a[1] * kind + a[2] * host + a[3] * kind * host + b
            numpyro.sample("y", dist.Binomial(n, logits=logits), obs=y)

    return model, {"kind": kind, "host": host, "n": n, "y": y}, ["b"]


def items():
    """Two parameters for each of 15 items, hierarchical, and 80 persons."""
    rng, P, K = np.random.default_rng(13), 80, 15
    ability, steep, hard = rng.normal(size=P), np.exp(0.3 * rng.normal(size=K)), 0.3 + 0.9 * rng.normal(size=K)
    y = rng.binomial(1, _logistic(steep * (ability[:, None] - hard)))

    def model(y=None):
        m = numpyro.sample("m", dist.Normal(0, 2))
        s_hard = numpyro.sample("s_hard", dist.HalfNormal(1.5))
        s_steep = numpyro.sample("s_steep", dist.HalfNormal(0.5))
        with numpyro.plate("item", K, dim=-1):
            hard = numpyro.sample("hard", dist.Normal(m, s_hard))
            steep = numpyro.sample("steep", dist.LogNormal(0, s_steep))
        with numpyro.plate("person", P, dim=-2):
            ability = numpyro.sample("ability", dist.Normal(0, 1))
            with numpyro.plate("item", K, dim=-1):
                numpyro.sample("y", dist.Bernoulli(logits=steep * (ability - hard)), obs=y)

    return model, {"y": y}, ["hard"]


def crossed():
    """Counts with two crossed effects: 30 sites and 20 days."""
    rng, N = np.random.default_rng(14), 400
    site, day, x = rng.integers(30, size=N), rng.integers(20, size=N), rng.normal(size=N)
    y = rng.poisson(np.exp(0.4 + 0.3 * x + 0.6 * rng.normal(size=30)[site] + 0.3 * rng.normal(size=20)[day]))

    def model(site, day, x, y=None):
        b0, b1 = numpyro.sample("b0", dist.Normal(0, 3)), numpyro.sample("b1", dist.Normal(0, 1))
        s_site, s_day = numpyro.sample("s_site", dist.HalfNormal(1)), numpyro.sample("s_day", dist.HalfNormal(1))
        with numpyro.plate("sites", 30):
            u = numpyro.sample("u", dist.Normal(0, s_site))
        with numpyro.plate("days", 20):
            v = numpyro.sample("v", dist.Normal(0, s_day))
        with numpyro.plate("row", len(x)):
            numpyro.sample("y", dist.Poisson(jnp.exp(b0 + b1 * x + u[site] + v[day])), obs=y)

    return model, {"site": site, "day": day, "x": x, "y": y}, ["u", "v"]


def growth():
    """Growth curves of 40 children at five ages, two treatments; starts and rates apart, two sites."""
    rng, J = np.random.default_rng(15), 40
    child, age = np.repeat(np.arange(J), 5), np.tile(np.arange(5.0), J)
    treated = rng.integers(2, size=J)
    start, rate = 20 + 2 * rng.normal(size=J), 3 + 0.8 * treated + 0.5 * rng.normal(size=J)
    y = start[child] + rate[child] * age + 1.2 * rng.normal(size=5 * J)

    def model(child, age, treated, y=None):
        m = numpyro.sample("m", dist.Normal(20, 10))
        r = numpyro.sample("r", dist.Normal(0, 5))
        effect = numpyro.sample("effect", dist.Normal(0, 2))
        s_start, s_rate = numpyro.sample("s_start", dist.HalfCauchy(2)), numpyro.sample("s_rate", dist.HalfCauchy(1))
        sigma = numpyro.sample("sigma", dist.HalfCauchy(2))
        with numpyro.plate("children", J):
            start = numpyro.sample("start", dist.Normal(m, s_start))
            rate = numpyro.sample("rate", dist.Normal(r + effect * treated, s_rate))
        with numpyro.plate("row", len(age)):
            numpyro.sample("y", dist.Normal(start[child] + rate[child] * age, sigma), obs=y)

    return model, {"child": child, "age": age, "treated": treated, "y": y}, []


def volatility():
    """Stochastic volatility of 100 days: an autoregression of the log variance, by a scan."""
    rng, T = np.random.default_rng(16), 100
    h = [-1.0]
    for _ in range(T - 1):
        h.append(-1 + 0.95 * (h[-1] + 1) + 0.3 * rng.normal())
    y = np.exp(np.array(h) / 2) * rng.normal(size=T)

    def model(y=None):
        mu = numpyro.sample("mu", dist.Normal(0, 2))
        phi = numpyro.sample("phi", dist.Beta(20, 1.5))
        s = numpyro.sample("s", dist.HalfNormal(0.5))
        first = numpyro.sample("first", dist.Normal(mu, s / jnp.sqrt(1 - phi**2)))
        numpyro.sample("y0", dist.Normal(0, jnp.exp(first / 2)), obs=None if y is None else y[0])

        def step(h, value):
            h = numpyro.sample("h", dist.Normal(mu + phi * (h - mu), s))
            numpyro.sample("y", dist.Normal(0, jnp.exp(h / 2)), obs=value)
            return h, None

        scan(step, first, None if y is None else y[1:], length=T - 1)

    def apart(y=None):
        mu = numpyro.sample("mu", dist.Normal(0, 2))
        phi = numpyro.sample("phi", dist.Beta(20, 1.5))
        s = numpyro.sample("s", dist.HalfNormal(0.5))
        e = numpyro.sample("e", dist.Normal(0, 1).expand([T]).to_event(1))
        first = numpyro.deterministic("first", mu + s / jnp.sqrt(1 - phi**2) * e[0])
        _, h = jax.lax.scan(lambda h, e: (mu + phi * (h - mu) + s * e,) * 2, first, e[1:])
        numpyro.deterministic("h", h)
        numpyro.sample("y", dist.Normal(0, jnp.exp(jnp.r_[first, h] / 2)).to_event(1), obs=y)

    return model, {"y": y}, apart


def negative_binomial():
    """Overdispersed counts in 30 groups, with an exposure."""
    rng, J, N = np.random.default_rng(17), 30, 300
    group, x, time_at = rng.integers(J, size=N), rng.normal(size=N), rng.uniform(0.5, 2, N)
    mean = time_at * np.exp(0.8 + 0.4 * x + 0.5 * rng.normal(size=J)[group])
    y = rng.poisson(mean * rng.gamma(2.0, 0.5, N))

    def model(group, x, time_at, y=None):
        b0, b1 = numpyro.sample("b0", dist.Normal(0, 3)), numpyro.sample("b1", dist.Normal(0, 1))
        s = numpyro.sample("s", dist.Exponential(1))
        k = numpyro.sample("k", dist.Gamma(2, 0.5))
        with numpyro.plate("groups", J):
            u = numpyro.sample("u", dist.Normal(b0, s))
        with numpyro.plate("row", len(x)):
            numpyro.sample("y", dist.NegativeBinomial2(time_at * jnp.exp(u[group] + b1 * x), k), obs=y)

    return model, {"group": group, "x": x, "time_at": time_at, "y": y}, ["u"]


def zero_inflated():
    """Counts with too many zeros: both the gate and the rate vary over 25 groups."""
    rng, J, N = np.random.default_rng(18), 25, 375
    group = rng.integers(J, size=N)
    gate, rate = _logistic(-0.7 + 0.8 * rng.normal(size=J)), np.exp(1.0 + 0.4 * rng.normal(size=J))
    y = rng.poisson(rate[group]) * (rng.random(N) > gate[group])

    def model(group, y=None):
        mg, mr = numpyro.sample("mg", dist.Normal(0, 1.5)), numpyro.sample("mr", dist.Normal(0, 2))
        sg, sr = numpyro.sample("sg", dist.HalfNormal(1)), numpyro.sample("sr", dist.HalfNormal(1))
        with numpyro.plate("groups", J):
            g = numpyro.sample("g", dist.Normal(mg, sg))
            r = numpyro.sample("r", dist.Normal(mr, sr))
        with numpyro.plate("row", len(group)):
            gate = 1 / (1 + jnp.exp(-g[group]))
            numpyro.sample("y", dist.ZeroInflatedPoisson(gate, rate=jnp.exp(r[group])), obs=y)

    return model, {"group": group, "y": y}, ["g", "r"]


def cells():
    """A poll by 50 states, 6 ages and 5 educations, with votes of the states at the last election."""
    rng, N = np.random.default_rng(19), 1200
    state, age, school = rng.integers(50, size=N), rng.integers(6, size=N), rng.integers(5, size=N)
    last = rng.normal(size=50)
    effects = (0.5 * last + 0.3 * rng.normal(size=50))[state] + 0.4 * rng.normal(size=6)[age]
    y = rng.binomial(1, _logistic(0.1 + effects + 0.2 * rng.normal(size=5)[school]))

    def model(state, age, school, last, y=None):
        b0, b1 = numpyro.sample("b0", dist.Normal(0, 1.5)), numpyro.sample("b1", dist.Normal(0, 1))
        s = numpyro.sample("s", dist.HalfNormal(1).expand([3]).to_event(1))
        with numpyro.plate("states", 50):
            by_state = numpyro.sample("by_state", dist.Normal(b1 * last, s[0]))
        with numpyro.plate("ages", 6):
            by_age = numpyro.sample("by_age", dist.Normal(0, s[1]))
        with numpyro.plate("schools", 5):
            by_school = numpyro.sample("by_school", dist.Normal(0, s[2]))
        with numpyro.plate("row", len(state)):
            logits = b0 + by_state[state] + by_age[age] + by_school[school]
            numpyro.sample("y", dist.Bernoulli(logits=logits), obs=y)

    return (
        model,
        {"state": state, "age": age, "school": school, "last": last, "y": y},
        [
            "by_state",
            "by_age",
            "by_school",
        ],
    )


def ordered():
    """Marks from 0 to 4 of 40 teachers."""
    rng, J, N = np.random.default_rng(20), 40, 600
    teacher, x = rng.integers(J, size=N), rng.normal(size=N)
    latent = 0.7 * x + 0.8 * rng.normal(size=J)[teacher] + rng.logistic(size=N)
    y = np.digitize(latent, [-2, -0.7, 0.6, 2.2])

    def model(teacher, x, y=None):
        b = numpyro.sample("b", dist.Normal(0, 2))
        s = numpyro.sample("s", dist.HalfCauchy(1))
        ordering = dist.transforms.OrderedTransform()
        cuts = numpyro.sample("cuts", dist.TransformedDistribution(dist.Normal(0, 2).expand([4]).to_event(1), ordering))
        with numpyro.plate("teachers", J):
            u = numpyro.sample("u", dist.Normal(0, s))
        with numpyro.plate("row", len(x)):
            numpyro.sample("y", dist.OrderedLogistic(b * x + u[teacher], cuts), obs=y)

    return model, {"teacher": teacher, "x": x, "y": y}, ["u"]


def frailty():
    """Times to relapse in 30 clinics, half of them censored: Weibull with a gamma frailty."""
    rng, J, N = np.random.default_rng(21), 30, 300
    clinic, drug = rng.integers(J, size=N), rng.integers(2, size=N)
    rate = np.exp(-1.0 - 0.6 * drug) * rng.gamma(2.5, 1 / 2.5, J)[clinic]
    event, end = (rng.exponential(size=N) / rate) ** (1 / 1.4), rng.uniform(0.5, 3.5, N)
    t, seen = np.minimum(event, end), (event <= end).astype(float)

    def model(clinic, drug, t, seen):
        b0, b1 = numpyro.sample("b0", dist.Normal(0, 3)), numpyro.sample("b1", dist.Normal(0, 2))
        shape = numpyro.sample("shape", dist.Gamma(2, 1))
        k = numpyro.sample("k", dist.Gamma(2, 0.5))
        with numpyro.plate("clinics", J):
            w = numpyro.sample("w", dist.Gamma(k, k))
        with numpyro.plate("row", len(t)):
            rate = w[clinic] * jnp.exp(b0 + b1 * drug)
            hazard = jnp.log(rate) + jnp.log(shape) + (shape - 1) * jnp.log(t)
            numpyro.factor("likelihood", seen * hazard - rate * t**shape)

    return model, {"clinic": clinic, "drug": drug, "t": t, "seen": seen}, []


def autoregression():
    """An autoregression of 120 weeks seen with noise."""
    rng, T = np.random.default_rng(22), 120
    f = [0.0]
    for _ in range(T - 1):
        f.append(0.8 * f[-1] + 0.5 * rng.normal())
    y = 2 + np.array(f) + 0.4 * rng.normal(size=T)

    def model(y=None):
        level = numpyro.sample("level", dist.Normal(0, 5))
        rho = numpyro.sample("rho", dist.Uniform(-1, 1))
        s, noise = numpyro.sample("s", dist.HalfNormal(1)), numpyro.sample("noise", dist.HalfNormal(1))

        def step(f, value):
            f = numpyro.sample("f", dist.Normal(rho * f, s))
            numpyro.sample("y", dist.Normal(level + f, noise), obs=value)
            return f, None

        scan(step, 0.0, y, length=T)

    def apart(y=None):
        level = numpyro.sample("level", dist.Normal(0, 5))
        rho = numpyro.sample("rho", dist.Uniform(-1, 1))
        s, noise = numpyro.sample("s", dist.HalfNormal(1)), numpyro.sample("noise", dist.HalfNormal(1))
        e = numpyro.sample("e", dist.Normal(0, 1).expand([T]).to_event(1))
        _, f = jax.lax.scan(lambda f, e: (rho * f + s * e,) * 2, 0.0, e)
        numpyro.deterministic("f", f)
        numpyro.sample("y", dist.Normal(level + f, noise).to_event(1), obs=y)

    return model, {"y": y}, apart


MODELS = {
    program.__name__: program
    for program in (
        slopes,
        seeds,
        items,
        crossed,
        growth,
        volatility,
        negative_binomial,
        zero_inflated,
        cells,
        ordered,
        frailty,
        autoregression,
    )
}


def _sampled(model, data, chains, warmup, count, target):
    """Draws by site, by chain, and the processor seconds."""
    from numpyro.infer import MCMC, NUTS

    began = time.process_time()
    kernel = NUTS(model, target_accept_prob=target)
    mcmc = MCMC(
        kernel, num_warmup=warmup, num_samples=count, num_chains=chains, progress_bar=False, chain_method="sequential"
    )
    mcmc.run(jax.random.key(7), **{name: jnp.asarray(values) for name, values in data.items()})
    draws = {name: np.asarray(values) for name, values in mcmc.get_samples(group_by_chain=True).items()}
    return draws, time.process_time() - began


def reference(name, folder):
    """Means and sds by long NUTS, and what NUTS 500 + 500 costs: computed once."""
    from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
    from numpyro.handlers import reparam
    from numpyro.infer.reparam import LocScaleReparam

    path = folder / f"{name}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        model, data, apart = MODELS[name]()
        _, seconds = _sampled(model, data, 1, 500, 500, 0.8)
        with jax.enable_x64(True):
            better = apart
            if not callable(apart):
                better = reparam(model, config={site: LocScaleReparam(0.0) for site in apart})
            draws, _ = _sampled(better, MODELS[name]()[1], 4, 1000, 2000, 0.95)
        known = {
            f"draws/{site}": values
            for site, values in draws.items()
            if site != "e" and not site.endswith("_decentered")
        }
        moving = [v.reshape(*v.shape[:2], -1) for v in known.values()]
        flat = np.concatenate(moving, axis=-1)
        flat = flat[..., flat.std((0, 1)) > 1e-9]  # zeros and ones of a Cholesky factor
        quality = [split_gelman_rubin(flat).max(), effective_sample_size(flat).min()]
        np.savez_compressed(path, seconds=seconds, quality=quality, **known)
    return np.load(path)


def one(name, seed, folder):
    """Fit, check and compare; a line of JSON."""
    import jensen as jn

    known = np.load(folder / f"{name}.npz")
    model, data, _ = MODELS[name]()
    began = time.process_time()
    fit = jn.fit(model, data, progress=False, seed=seed)
    report = fit.check()
    seconds = time.process_time() - began
    off, ratios = [], []
    for key in (k for k in known.files if k.startswith("draws/")):
        truth = known[key].reshape(-1, *known[key].shape[2:])
        sd = truth.std(axis=0)
        told = sd > 1e-9
        table = fit.summary([key[6:]])
        mean, spread = (np.asarray(table[c], float).reshape(sd.shape) for c in ("mean", "sd"))
        off.append((np.abs(mean - truth.mean(axis=0))[told] / sd[told]).max())
        ratios.extend((spread[told] / sd[told]).ravel())
    row = {
        "seconds": seconds,
        "verdict": report.verdict,
        "off": max(off),
        "low": min(ratios),
        "high": max(ratios),
        "pass": bool(max(off) < 0.3 and min(ratios) > 0.7 and max(ratios) < 1.4),
        "method": fit.method,
    }
    print(json.dumps(row))


def main():
    """Every model, or those that are named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="NAME", default=[])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--references", type=Path, default=Path.home() / ".cache" / "jensen-hierarchical")
    parser.add_argument("--only-references", action="store_true")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        return one(given.names[0], given.one, given.references)
    for name in given.names or MODELS:
        known = reference(name, given.references)
        rhat, ess = known["quality"]
        cost = f"NUTS 500 + 500 {float(known['seconds']):6.1f} CPU s"
        print(f"{name:18} {cost}; reference: r-hat {rhat:.3f}, ESS {ess:,.0f}", flush=True)
        for seed in range(0 if given.only_references else given.seeds):
            command = [sys.executable, __file__, name, "--one", str(seed), "--references", str(given.references)]
            out = subprocess.run(command, capture_output=True, text=True)
            if out.returncode:
                print(f"  seed {seed}  {out.stderr.strip().splitlines()[-1]}", flush=True)
                continue
            row = json.loads(out.stdout.strip().splitlines()[-1])
            judged = "PASS" if row["pass"] else "FAIL"
            found = f"means within {row['off']:.2f} sd, sds {row['low']:.2f} to {row['high']:.2f}"
            cost = f"{row['seconds']:6.1f} CPU s"
            print(f"  seed {seed}  {cost}  {row['verdict']:10} {judged}  {found}  {row['method']}", flush=True)


if __name__ == "__main__":
    main()
