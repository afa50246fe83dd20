"""Does the interval of `evidence()` hold the exact log evidence? On models where that is known.

    python benchmarks/evidence.py [--models 200]

Four kinds in turn, each with data of its own: a linear regression with correlated weights under a mean-field Gaussian;
effects around a common mean under "auto"; a sum of hidden bits under "bbvi"; a mixture of two normals with an unknown
place under "auto", its rows' labels summed for the exact value. Prints the share of intervals that hold, by kind.
"""

import argparse
import itertools
import json
import time

import numpy as np
import numpyro
import numpyro.distributions as dist
from scipy import stats
from scipy.special import logsumexp

import jensen as jn


def regression(x, y):
    """Normal weights, normal errors."""
    w = numpyro.sample("w", dist.Normal(0, 1).expand([3]).to_event(1))
    numpyro.sample("y", dist.Normal(x @ w, 0.8).to_event(1), obs=y)


def regression_data(rng):
    """Correlated columns."""
    x = rng.normal(size=(15, 1)) + 0.6 * rng.normal(size=(15, 3))
    y = x @ rng.normal(size=3) + 0.8 * rng.normal(size=15)
    exact = stats.multivariate_normal(np.zeros(15), x @ x.T + 0.64 * np.eye(15)).logpdf(y)
    return {"x": x, "y": y}, exact


def effects(y):
    """Each group's effect around a common mean."""
    mu = numpyro.sample("mu", dist.Normal(0, 3))
    with numpyro.plate("group", 8):
        theta = numpyro.sample("theta", dist.Normal(mu, 1.5))
        numpyro.sample("y", dist.Normal(theta, 1.0), obs=y)


def effects_data(rng):
    """A draw of the model."""
    y = 3 * rng.normal() + 1.5 * rng.normal(size=8) + rng.normal(size=8)
    return {"y": y}, stats.multivariate_normal(np.zeros(8), 9.0 + (2.25 + 1.0) * np.eye(8)).logpdf(y)


def bits(a, y):
    """Hidden bits, each with a weight of its own."""
    with numpyro.plate("bit", 8):
        z = numpyro.sample("z", dist.Bernoulli(0.3))
    numpyro.sample("y", dist.Normal(a @ z, 1.0).to_event(1), obs=y)


def bits_data(rng):
    """A draw of the model."""
    a = rng.normal(size=(3, 8))
    y = a @ (rng.uniform(size=8) < 0.3) + rng.normal(size=3)
    states = np.array(list(itertools.product([0, 1], repeat=8)))
    log_p = stats.bernoulli(0.3).logpmf(states).sum(1) + stats.norm(states @ a.T, 1.0).logpdf(y).sum(1)
    return {"a": a, "y": y}, logsumexp(log_p)


def mixture(y):
    """Rows of one normal or another, the distance between them unknown."""
    place = numpyro.sample("place", dist.Normal(2.0, 1.0))
    with numpyro.plate("row", 8):
        c = numpyro.sample("c", dist.Bernoulli(0.4))
        numpyro.sample("y", dist.Normal(c * place, 1.0), obs=y)


def mixture_data(rng):
    """A draw of the model."""
    y = (2.0 + rng.normal()) * (rng.uniform(size=8) < 0.4) + rng.normal(size=8)
    logs = []
    for state in itertools.product([0, 1], repeat=8):
        s = np.array(state, float)
        density = stats.multivariate_normal(2.0 * s, np.outer(s, s) + np.eye(8)).logpdf(y)
        logs.append(stats.bernoulli(0.4).logpmf(s.astype(int)).sum() + density)
    return {"y": y}, logsumexp(logs)


KINDS = {
    "regression": (regression, regression_data, jn.advi(num_starts=2)),
    "effects": (effects, effects_data, "auto"),
    "bits": (bits, bits_data, "bbvi"),
    "mixture": (mixture, mixture_data, "auto"),
}


def main() -> None:
    """Fit them all, then print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=200)
    arguments = parser.parse_args()
    held: dict[str, list[bool]] = {name: [] for name in KINDS}
    finite, widths, missed = [], [], []
    begun = time.process_time()
    for number in range(arguments.models):
        name = list(KINDS)[number % len(KINDS)]
        model, make, method = KINDS[name]
        data, exact = make(np.random.default_rng([number, 99]))
        low, high = jn.fit(model, data, method, seed=number).evidence().interval
        held[name].append(bool(low <= exact <= high))
        finite.append(bool(np.isfinite(high)))
        if finite[-1]:
            widths.append(high - low)
        if not held[name][-1]:
            missed.append({"number": number, "kind": name, "exact": exact, "interval": [low, high]})
    every = [one for found in held.values() for one in found]
    print(
        json.dumps(
            {
                "models": len(every),
                "held": float(np.mean(every)),
                "by_kind": {name: float(np.mean(found)) for name, found in held.items() if found},
                "finite_upper_ends": float(np.mean(finite)),
                "median_width": float(np.median(widths)) if widths else None,
                "missed": missed,
                "cpu": round(time.process_time() - begun, 1),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
