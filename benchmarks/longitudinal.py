"""Held-out log likelihood against time with and without each variance reduction, on synthetic patients' lab series.

    python benchmarks/longitudinal.py [--seconds 60] [--full] [--plot docs/longitudinal.png]

The Gamma-Normal time series of Ranganath, Gerrish and Blei (2014, section 5): a patient's latent state is positive and
wanders from visit to visit, Gamma with the state before as its mean; labs are normal around the patient's own levels
plus loadings times the state. The private data are replaced by draws from the model; `--full` takes the paper's size
(803 patients, 41 visits, 17 labs) and its batches of 25 patients. A tenth of the lab values is held out. Every gradient
moves q by the same steps; only the estimator and, where it is said, the number of draws differ. Seconds are processor
seconds, without compilation and without the choice of the default gradients, which are printed.
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
from numpyro.contrib.control_flow import scan

import jensen as jn
from jensen._ascent import moves
from jensen._blackbox import recipes
from jensen._blackbox.start import starting_product
from jensen._math.precision import working
from jensen._math.programs import Program
from jensen.bounds import ELBO
from jensen.estimators import Blanket, LeaveOneOut, NoBaseline, ScoreFunction, Whole

NOISE, SPREAD, DRAWS, MANY = 0.5, 0.1, 16, 1000
RATE, EPOCHS = 0.1, 5
"""The first step size, and the passes over the data after which it has fallen by the square root of two."""


def patients(labs, seen):
    """Labs (visits, patients, labs); `seen` is false where a value is missing or held out."""
    _, count, kinds = labs.shape
    each, shape = numpyro.plate("patient", count, dim=-2), 1.0 / SPREAD**2
    with numpyro.plate("lab", kinds, dim=-1):
        loading = numpyro.sample("loading", dist.Normal(0.0, 1.0))
        with each:
            level = numpyro.sample("level", dist.Normal(0.0, 1.0))

    def visit(before, now):
        values, there = now
        with each:
            state = numpyro.sample("state", dist.Gamma(shape, shape / before))
            with numpyro.plate("lab", kinds, dim=-1), handlers.mask(mask=there):
                numpyro.sample("labs", dist.Normal(level + state * loading, NOISE), obs=values)
        return state, None

    scan(visit, jnp.ones((count, 1)), (labs, seen))


def simulated(rng, count, visits, kinds):
    """(labs, where they are seen in the fit)."""
    shape = 1.0 / SPREAD**2
    path = [np.ones(count)]
    for _ in range(visits):
        path.append(rng.gamma(shape, path[-1] / shape))
    loading, level = rng.normal(size=kinds), rng.normal(size=(count, kinds))
    mean = level + np.stack(path[1:])[..., None] * loading
    labs = mean + NOISE * rng.normal(size=(visits, count, kinds))
    return labs, rng.uniform(size=labs.shape) > 0.1


def held_out(q, labs, seen):
    """Mean log predictive density of a held-out value, in nats, from 32 draws of q."""

    def one(key):
        z = q.values(key)
        return dist.Normal(z["level"] + z["state"] * z["loading"], NOISE).log_prob(labs)

    values = jax.scipy.special.logsumexp(jax.lax.map(one, jr.split(jr.key(9), 32)), axis=0) - np.log(32)
    return jnp.sum(jnp.where(seen, 0.0, values)) / jnp.sum(~seen)


def estimators(target, q):
    """Label -> estimator."""
    part = q.at(target.batch())
    links = target.links({name: factor.rows for name, factor in part.factors.items()})
    blanket, start = Blanket(links), time.process_time()
    chosen = recipes.choose(target, q, links, jn.bbvi().num_draws, jr.key(0))
    print(f"default gradients chosen in {time.process_time() - start:.1f} s: {chosen}", flush=True)
    return {
        "no reduction": ScoreFunction(DRAWS, Whole(), NoBaseline()),
        "Rao-Blackwell": ScoreFunction(DRAWS, blanket, NoBaseline()),
        "Rao-Blackwell, control variate": ScoreFunction(DRAWS, blanket, LeaveOneOut()),
        f"the same, {MANY} draws": ScoreFunction(MANY, blanket, LeaveOneOut()),
        "default": chosen.estimator(),
    }


def curve(target, estimator, q, seconds, steps, score):
    """(processor seconds, held-out nats) after some of many `steps` steps: of the average over their second half."""
    run, state = moves.Chunks(target, estimator, ELBO(), quick=0), moves.ADAM.init(q)
    last = time.process_time()
    run(q, 0.0, state, jr.key(1), steps)
    spent, points, compiled, passes = 0.0, [], time.process_time() - last, 0
    while spent < seconds:
        last = time.process_time()
        rate = RATE / np.sqrt(1.0 + passes / EPOCHS)
        q, state, average, _, _ = run(q, rate, state, jr.fold_in(jr.key(0), passes), steps)
        spent, passes = spent + time.process_time() - last, passes + 1
        if spent > 1.08 * (points[-1][0] if points else 0.0) or spent >= seconds:
            points.append((spent, float(score(average))))
    return points, compiled, passes * steps


def main():
    """Run every estimator for the same time, print the curves and draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--plot", default="")
    options = parser.parse_args()
    size, batch, steps = ((803, 41, 17), 25, 32) if options.full else ((10, 6, 5), None, 25)
    labs, seen = simulated(np.random.default_rng(0), *size)
    method = jn.bbvi(batch_size=batch, plate="patient" if batch else None)
    target = method.prepare(patients, {"labs": labs, "seen": seen}, "double")
    curves, program = {}, Program(held_out, heavy=True)
    with working("double"):
        q = starting_product(target, 0, {})
        for label, estimator in estimators(target, q).items():
            score = lambda q: program(q, labs, seen)  # noqa: E731
            curves[label], compiled, taken = curve(target, estimator, q, options.seconds, steps, score)
            (at, end), most = curves[label][-1], max(value for _, value in curves[label])
            print(f"{label:32s} {end:8.4f} nats after {at:6.1f} s, best {most:8.4f}; {taken} steps; ", end="")
            print(f"compiled in {compiled:.0f} s", flush=True)
    top = max(value for points in curves.values() for _, value in points)
    for label, points in curves.items():
        times = [next((f"{t:.1f}" for t, value in points if value > top - gap), "-") for gap in (0.1, 0.02, 0.005)]
        print(f"{label:32s} within 0.1, 0.02, 0.005 nats of the best of all after {', '.join(times)} s")
    if options.plot:
        draw(curves, top, options.plot)


def draw(curves, top, path):
    """The curves, and below them how far they are from the best value of all."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (above, below) = plt.subplots(1, 2, figsize=(9, 3.6))
    for label, points in curves.items():
        seconds, values = np.array(points).T
        above.plot(seconds, values, marker=".", markersize=3, label=label)
        below.plot(seconds, np.maximum(top - values, 1e-5), marker=".", markersize=3)
    above.set(xscale="log", xlabel="processor seconds", ylabel="log density of a held-out value, nats")
    above.set_ylim(top - 1.2, top + 0.05)
    below.set(xscale="log", yscale="log", xlabel="processor seconds", ylabel="nats below the best of all")
    above.legend(frameon=False, fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
