"""Held-out log likelihood against time with and without each variance reduction, on synthetic patients' lab series.

    python benchmarks/longitudinal.py [--seconds 60] [--full] [--plot docs/longitudinal.png]

After the Gamma-Normal time series of Ranganath, Gerrish and Blei (2014, section 5): a patient's latent states are
positive and wander from visit to visit, Gamma with the previous state as its mean; labs are normal around a linear
function of the states. The private data are replaced by draws from the model; `--full` takes the paper's size (803
patients, 41 visits, 17 labs). A tenth of the lab values is held out. Every gradient is on all patients, from the same
number of draws, and moves q by the same steps; only the estimator differs. Seconds are processor seconds.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro import handlers

import jensen as jn
from jensen.algorithms.blackbox.start import starting_product
from jensen.estimators import Blanket, LeaveOneOut, NoBaseline, ScoreFunction, Whole
from jensen.math.precision import working
from jensen.math.programs import Program

STATES, NOISE, SPREAD, DRAWS = 1, 0.5, 0.3, 16


def patients(labs, seen):
    """Labs (patients, visits, labs); `seen` is false where a value is missing or held out."""
    count, visits, kinds = labs.shape
    loading = numpyro.sample("loading", dist.Normal(0.0, 1.0).expand([STATES, kinds]).to_event(2))
    offset = numpyro.sample("offset", dist.Normal(0.0, 1.0).expand([kinds]).to_event(1))
    shape = 1.0 / SPREAD**2
    with numpyro.plate("patient", count, dim=-2), numpyro.plate("state", STATES, dim=-1):
        state = numpyro.sample("z0", dist.Gamma(shape, shape))
        path = [state]
        for visit in range(1, visits):
            state = numpyro.sample(f"z{visit}", dist.Gamma(shape, shape / state))
            path.append(state)
    mean = offset + jnp.stack(path, axis=1) @ loading
    with handlers.mask(mask=seen):
        numpyro.sample("labs", dist.Normal(mean, NOISE), obs=labs)


def simulated(rng, count, visits, kinds):
    """(labs, where they are seen in the fit)."""
    shape = 1.0 / SPREAD**2
    path = [rng.gamma(shape, 1.0 / shape, size=(count, STATES))]
    for _ in range(1, visits):
        path.append(rng.gamma(shape, path[-1] / shape))
    loading, offset = rng.normal(size=(STATES, kinds)), rng.normal(size=kinds)
    labs = offset + np.stack(path, axis=1) @ loading + NOISE * rng.normal(size=(count, visits, kinds))
    return labs, rng.uniform(size=labs.shape) > 0.1


def held_out(q, labs, seen):
    """Mean log predictive density of a held-out value, in nats, from 256 draws of q."""
    visits = labs.shape[1]

    def one(key):
        z = q.values(key)
        path = jnp.stack([z[f"z{visit}"] for visit in range(visits)], axis=1)
        return dist.Normal(z["offset"] + path @ z["loading"], NOISE).log_prob(labs)

    values = jax.scipy.special.logsumexp(jax.lax.map(one, jr.split(jr.key(9), 256)), axis=0) - np.log(256)
    return jnp.sum(jnp.where(seen, 0.0, values)) / jnp.sum(~seen)


def methods(target):
    """Label -> method."""
    with working("double"):
        q = starting_product(target, 0, {})
        blanket = Blanket(target.links({name: factor.rows for name, factor in q.factors.items()}))
    given = {
        "no reduction": ScoreFunction(DRAWS, Whole(), NoBaseline()),
        "Rao-Blackwell": ScoreFunction(DRAWS, blanket, NoBaseline()),
        "Rao-Blackwell, control variate": ScoreFunction(DRAWS, blanket, LeaveOneOut()),
    }
    return {
        **{label: jn.bbvi(estimator=e, tolerance=1e-9) for label, e in given.items()},
        "default": jn.bbvi(tolerance=1e-9),
    }


def curve(method, target, seconds, score):
    """(processor seconds, held-out nats) after every chunk of steps, from the second chunk on.

    The first one holds compilation; its steps are counted as taking the time of the second.
    """
    spent, points, last = 0.0, [], time.process_time()
    for index, item in enumerate(method.run(target, 0)):
        used = time.process_time() - last
        if index:
            spent += used * (2 if index == 1 else 1)
            points.append((spent, float(score(item.q))))
        if spent > seconds:
            break
        last = time.process_time()
    return points


def main():
    """Run every estimator for the same time, print the curves and draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--plot", default="")
    options = parser.parse_args()
    size = (803, 41, 17) if options.full else (10, 6, 5)
    labs, seen = simulated(np.random.default_rng(0), *size)
    data = {"labs": labs, "seen": seen}
    target = jn.bbvi().prepare(patients, data, "double")
    program = Program(held_out)
    curves = {}
    for label, method in methods(target).items():
        curves[label] = curve(method, target, options.seconds, lambda q: program(q, labs, seen))
        (at, end), most = curves[label][-1], max(value for _, value in curves[label])
        print(f"{label:32s} held-out nats {end:8.3f} after {at:6.1f} s, best {most:8.3f}", flush=True)
    if options.plot:
        import matplotlib as mpl

        mpl.use("Agg")
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(figsize=(6, 3.6))
        for label, points in curves.items():
            axes.plot(*np.array(points).T, marker=".", label=label)
        axes.set(xscale="log", xlabel="processor seconds", ylabel="log density of a held-out value, nats")
        top = max(value for points in curves.values() for _, value in points)
        axes.set_ylim(top - 0.6, top + 0.05)  # the plain score function is far below
        axes.legend(frameon=False, fontsize="small")
        figure.tight_layout()
        figure.savefig(options.plot, dpi=90)


if __name__ == "__main__":
    main()
