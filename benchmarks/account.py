"""What the default costs on small models that are hard for a Gaussian, beside NUTS on the same model.

    python benchmarks/account.py [--only dais ode ...] [--methods auto nuts] [--warm]

Processor seconds of all threads, import apart, each in a process of its own; of NUTS 500 + 500 draws of one chain,
compilation included. The default's are those of the fit and its check.
"""

import argparse
import json
import subprocess
import sys

import defaults
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist


def regression():
    """A sparse regression: 16 coefficients with a common scale, noise and intercept, 40 rows."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 15))
    y = X[:, :3] @ np.array([1.0, -0.7, 0.5]) + 0.7 * rng.normal(size=40)

    def model(X, y):
        intercept = numpyro.sample("intercept", dist.Normal(0, 2))
        scale = numpyro.sample("scale", dist.HalfCauchy(1))
        sigma = numpyro.sample("sigma", dist.HalfNormal(2))
        with numpyro.plate("column", X.shape[1]):
            b = numpyro.sample("b", dist.Normal(0, scale))
        with numpyro.plate("row", len(y)):
            numpyro.sample("y", dist.Normal(intercept + X @ b, sigma), obs=y)

    return model, {"X": X, "y": y}


def mixture():
    """Two normals with ordered means, sds and a weight: five parameters, 200 rows."""
    rng = np.random.default_rng(1)
    y = np.where(rng.uniform(size=200) < 0.35, rng.normal(-1.5, 0.8, 200), rng.normal(1.5, 1.2, 200))

    def model(y):
        weight = numpyro.sample("weight", dist.Beta(5, 5))
        low = numpyro.sample("low", dist.Normal(0, 2))
        gap = numpyro.sample("gap", dist.HalfNormal(3))
        with numpyro.plate("component", 2):
            sd = numpyro.sample("sd", dist.HalfNormal(2))
        means = jnp.stack([low, low + gap])
        parts = dist.MixtureSameFamily(dist.Categorical(jnp.stack([weight, 1 - weight])), dist.Normal(means, sd))
        with numpyro.plate("row", len(y)):
            numpyro.sample("y", parts, obs=y)

    return model, {"y": y}


def glmm():
    """A Poisson model with effects of 20 groups given as a log density: 23 coordinates."""
    import jensen as jn

    rng = np.random.default_rng(2)
    group, x = np.repeat(np.arange(20), 8), rng.normal(size=160)
    y = rng.poisson(np.exp(0.5 + 0.4 * x + 0.6 * rng.normal(size=20)[group]))

    def log_density(z):
        eta = z["a"] + z["b"] * x + z["u"][group]
        prior = dist.Normal(0, 3).log_prob(z["a"]) + dist.Normal(0, 3).log_prob(z["b"])
        prior += dist.HalfNormal(1).log_prob(z["tau"]) + dist.Normal(0, z["tau"]).log_prob(z["u"]).sum()
        return prior + dist.Poisson(jnp.exp(eta)).log_prob(y).sum()

    start = {"a": np.zeros(()), "b": np.zeros(()), "tau": np.ones(()), "u": np.zeros(20)}
    return jn.LogDensity(log_density, start, {"tau": dist.constraints.positive}), None


def dais():
    """NumPyro's `dais_demo`: logistic regression of sonar-like data, 60 columns of which few matter, 200 rows."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(200, 20)) @ rng.normal(size=(20, 20)) / 4
    y = (rng.uniform(size=200) < 1 / (1 + np.exp(-X @ rng.normal(size=20)))).astype(int)

    def model(X, y):
        intercept = numpyro.sample("intercept", dist.Normal(0, 3))
        w = numpyro.sample("w", dist.Normal(0, 3).expand([X.shape[1]]).to_event(1))
        with numpyro.plate("row", len(y)):
            numpyro.sample("y", dist.Bernoulli(logits=intercept + X @ w), obs=y)

    return model, {"X": X, "y": y}


def admissions():
    """Admissions to Berkeley, 1973: effects of department on the level and on what sex adds, correlated."""
    applied = np.array([825, 108, 560, 25, 325, 593, 417, 375, 191, 393, 373, 341])
    admitted = np.array([512, 89, 353, 17, 120, 202, 138, 131, 53, 94, 22, 24])
    dept, male = np.repeat(np.arange(6), 2), np.tile([1, 0], 6)

    def model(dept, male, applied, admitted):
        v_mu = numpyro.sample("v_mu", dist.MultivariateNormal(jnp.zeros(2), jnp.eye(2)))
        sigma = numpyro.sample("sigma", dist.HalfNormal(1.0).expand([2]).to_event(1))
        chol = numpyro.sample("L_Rho", dist.LKJCholesky(2, concentration=2.0))
        z = numpyro.sample("z", dist.Normal(0, 1).expand([2, 6]).to_event(2))
        v = (sigma[:, None] * chol @ z).T
        logits = v_mu[0] + v[dept, 0] + (v_mu[1] + v[dept, 1]) * male
        numpyro.sample("admit", dist.Binomial(applied, logits=logits), obs=admitted)

    return model, {"dept": dept, "male": male, "applied": applied, "admitted": admitted}


def ode():
    """NumPyro's predator and prey, as the hares and lynxes of 1900 to 1920: an equation solved to 21 points."""
    from jax.experimental.ode import odeint

    hare = [30, 47.2, 70.2, 77.4, 36.3, 20.6, 18.1, 21.4, 22, 25.4, 27.1, 40.3, 57, 76.6, 52.3, 19.5, 11.2, 7.6, 14.6]
    lynx = [4, 6.1, 9.8, 35.2, 59.4, 41.7, 19, 13, 8.3, 9.1, 7.4, 8, 12.3, 19.5, 45.7, 51.1, 29.7, 15.8, 9.7]
    y = np.stack([[*hare, 16.2, 24.7], [*lynx, 10.1, 8.6]], axis=1)

    def slope(z, t, theta):
        u, v = z[0], z[1]
        return jnp.stack([(theta[0] - theta[1] * v) * u, (-theta[2] + theta[3] * u) * v])

    def model(y):
        start = numpyro.sample("z_init", dist.LogNormal(jnp.log(10), 1).expand([2]))
        theta = numpyro.sample(
            "theta",
            dist.TruncatedNormal(
                low=0.0, loc=jnp.array([1.0, 0.05, 1.0, 0.05]), scale=jnp.array([0.2, 0.01, 0.2, 0.01])
            ),
        )
        path = odeint(slope, start, jnp.arange(21.0), theta, rtol=1e-6, atol=1e-5, mxstep=1000)
        sigma = numpyro.sample("sigma", dist.LogNormal(-1, 1).expand([2]))
        numpyro.sample("y", dist.LogNormal(jnp.log(path), sigma), obs=y)

    return model, {"y": y}


def leverage():
    """Stochastic volatility of 150 days whose next step leans on the last return: not concave everywhere."""
    from numpyro.contrib.control_flow import scan

    rng, T = np.random.default_rng(7), 150
    h, y = np.full(T, -1.0), np.zeros(T)
    for t in range(T):
        e = rng.normal()
        y[t] = np.exp(h[t] / 2) * e
        if t < T - 1:
            h[t + 1] = -1 + 0.95 * (h[t] + 1) + 0.25 * (-0.5 * e + np.sqrt(0.75) * rng.normal())

    def model(y):
        mu, phi = numpyro.sample("mu", dist.Normal(0, 2)), numpyro.sample("phi", dist.Beta(20, 1.5))
        s, rho = numpyro.sample("s", dist.HalfNormal(0.5)), numpyro.sample("rho", dist.Uniform(-1, 1))
        first = numpyro.sample("first", dist.Normal(mu, s / jnp.sqrt(1 - phi**2)))
        numpyro.sample("y0", dist.Normal(0, jnp.exp(first / 2)), obs=y[0])

        def step(carry, value):
            h, last = carry
            push = s * rho * last * jnp.exp(-h / 2)
            h = numpyro.sample("h", dist.Normal(mu + phi * (h - mu) + push, s * jnp.sqrt(1 - rho**2)))
            numpyro.sample("y", dist.Normal(0, jnp.exp(h / 2)), obs=value)
            return (h, value), None

        scan(step, (first, y[0]), y[1:])

    return model, {"y": y}


def lags():
    """Counts of 200 weeks: an autoregression of the second order, written by its innovations."""
    rng, T = np.random.default_rng(3), 200
    z = np.zeros(T)
    for t in range(2, T):
        z[t] = 0.6 * z[t - 1] + 0.2 * z[t - 2] + 0.4 * rng.normal()
    y = rng.poisson(np.exp(0.5 + z))

    def model(y):
        a, b = numpyro.sample("a", dist.Uniform(-1, 1)), numpyro.sample("b", dist.Uniform(-0.5, 0.5))
        s, mu = numpyro.sample("s", dist.HalfNormal(1)), numpyro.sample("mu", dist.Normal(0, 2))
        e = numpyro.sample("e", dist.Normal(0, 1).expand([T]).to_event(1))

        def step(carry, e):
            z = a * carry[0] + b * carry[1] + s * e
            return (z, carry[0]), z

        z = jax.lax.scan(step, (0.0, 0.0), e)[1]
        with numpyro.plate("week", T):
            numpyro.sample("y", dist.Poisson(jnp.exp(mu + z)), obs=y)

    return model, {"y": y}


def network():
    """A network of six hidden units, 720 labellings of them and more modes than climbs can count."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(150, 5))
    y = np.tanh(X @ rng.normal(size=5)) + 0.1 * rng.normal(size=150)

    def model(X, y):
        w = numpyro.sample("w", dist.Normal(0, 1).expand([5, 6]).to_event(2))
        v = numpyro.sample("v", dist.Normal(0, 1).expand([6]).to_event(1))
        s = numpyro.sample("s", dist.HalfNormal(1))
        with numpyro.plate("row", len(y)):
            numpyro.sample("y", dist.Normal(jnp.tanh(X @ w) @ v, s), obs=y)

    return model, {"X": X, "y": y}


ROWS = {f.__name__: f for f in (regression, mixture, glmm, dais, admissions, ode, leverage, lags, network)}


def nuts(name: str) -> dict:
    """Processor seconds of 500 + 500 draws, in the coordinates that NumPyro gives itself."""
    from numpyro.infer import MCMC, NUTS

    jax.config.update("jax_enable_x64", True)
    numpyro.enable_validation(False)  # the first trajectories of an equation end where no number is
    model, data = ROWS[name]()
    begin = defaults._seconds()
    if data is None:
        from jensen._model import build

        target = build(model, None, "double")
        kernel, keywords = (
            NUTS(potential_fn=lambda u: -target.model.log_density(u)),
            {"init_params": jnp.zeros(target.dim)},
        )
    else:
        kernel, keywords = NUTS(model), data
    chain = MCMC(kernel, num_warmup=500, num_samples=500, progress_bar=False)
    chain.run(jax.random.key(0), **keywords)
    jax.block_until_ready(chain.get_samples())
    return {"fit": defaults._seconds() - begin, "check": 0.0, "verdict": "", "status": ""}


def one(name: str, method: str) -> dict:
    """A row in this process."""
    if method == "nuts":
        return nuts(name)
    import jensen as jn

    model, data = ROWS[name]()
    begin = defaults._seconds()
    fit = jn.fit(model, data, method, progress=False)
    middle = defaults._seconds()
    report = fit.check()
    stages = ", ".join(row["family"] for row in fit.outcome.stages)
    out = {"fit": middle - begin, "check": defaults._seconds() - middle, "verdict": report.verdict}
    return out | {"status": f"{fit.status} [{stages}; {fit.timings['gradients']:.0f} gradients] {report.reasons[:3]}"}


def main() -> None:
    """All rows, or some."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(ROWS))
    parser.add_argument("--methods", nargs="*", default=["auto", "nuts"])
    parser.add_argument("--warm", action="store_true")
    parser.add_argument("--one", nargs=2)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(*arguments.one), default=str))
        return
    environment = defaults.process_environment(arguments.warm)
    print(f"{'row':<11} {'method':<6} {'fit':>7} {'check':>7}")
    for name in arguments.only:
        for method in arguments.methods:
            command = [sys.executable, __file__, "--one", name, method]
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            if done.returncode:
                print(name, method, done.stderr[-600:])
                continue
            row = json.loads(done.stdout.splitlines()[-1])
            print(f"{name:<11} {method:<6} {row['fit']:>7.1f} {row['check']:>7.1f}  {row['verdict']}", flush=True)
            print(f"    {row['status']}" if row["status"] else "", end="\n" if row["status"] else "", flush=True)


if __name__ == "__main__":
    main()
