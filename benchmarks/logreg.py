"""Bayesian logistic regression, w ~ N(0, I): CPU seconds until the means are within 0.02 posterior sd of the truth.

    python benchmarks/logreg.py --harness PATH [--n 1e5] [--d 50] [--impl jensen numpyro_mf ...] [--limit 60]

PATH is the folder with `bench_logreg.py`, whose data, reference posterior, peers and clock are used unchanged; jensen
is added as one more implementation. As for the peers, compilation is left out of the clock (jensen: a first fit of the
same shapes compiles everything) and stated beside it. Errors are |mean - reference| / reference sd, root mean square.
`numpyro_mf` runs at the schedules in --schedules (learning rate:halving steps) and the best one counts.
"""

import argparse
import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpyro
import numpyro.distributions as dist

import jensen as jn


def model(X, y):
    """The regression as a user writes it."""
    w = numpyro.sample("w", dist.Normal(0, 1).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=X @ w), obs=y)


def jensen(X, y, options, snap) -> None:
    """`jn.fit` with no options, after one fit that compiles."""
    data = {"X": X, "y": y}
    first = jn.fit(model, data, options.method, seed=1, progress=False)
    options.compiled = first.timings["compile"]
    snap(lambda: (np.zeros(X.shape[1]), np.ones(X.shape[1])))
    fit = jn.fit(model, data, options.method, seed=0, progress=False)
    covariance = fit.q.covariance() if fit.outcome.linear_response is None else fit.outcome.linear_response
    options.fit, options.covariance = fit, covariance
    snap(lambda: (np.asarray(fit.q.loc), np.sqrt(np.diag(covariance))))


def measure(harness, clock_class, run, X, y, reference, sd, options) -> dict:
    """Seconds to reach each level for good, and the errors at the end, by the harness's own rule."""
    clock, snapshots = clock_class(), []

    def snap(state) -> bool:
        wall, cpu = clock.now(), clock.cpu()
        with clock.pause():
            snapshots.append((wall, cpu, *state()))
        return cpu - snapshots[0][1] < options.limit

    run(X, y, options, snap)
    wall0, cpu0 = snapshots[0][:2]
    errors = [
        (w - wall0, c - cpu0, float(np.sqrt(np.mean(((m - reference) / sd) ** 2))), float(np.median(s / sd)))
        for w, c, m, s in snapshots
    ]
    out = {"wall": errors[-1][0], "cpu": errors[-1][1], "final_rms": errors[-1][2], "sd_ratio": errors[-1][3]}
    for level in (0.1, 0.05, 0.02):
        first = len(errors)
        while first and errors[first - 1][2] <= level:
            first -= 1
        out[f"cpu_to_{level}"] = errors[first][1] if first < len(errors) else None
    return out


def main() -> None:
    """Run each implementation on the same data and print one JSON line apiece, then the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--harness", type=Path, required=True)
    parser.add_argument("--n", type=lambda s: int(float(s)), default=100_000)
    parser.add_argument("--d", type=int, default=50)
    parser.add_argument("--method", default="auto")
    parser.add_argument("--impl", nargs="*", default=["jensen"])
    parser.add_argument("--schedules", nargs="*", default=["0.01:0", "0.01:1500", "0.03:500"])
    parser.add_argument("--limit", type=float, default=60.0)
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.harness))
    harness, Clock = importlib.import_module("bench_logreg"), importlib.import_module("common").Clock

    X, y = harness.make(arguments.n, arguments.d)
    reference, sd, shift, _, hessian = harness.reference(X, y)
    best: dict[str, float] = {}
    for name in arguments.impl:
        schedules = arguments.schedules if name.startswith("numpyro") else ["0.01:0"]
        for schedule in schedules:
            rate, decay = schedule.split(":")
            options = SimpleNamespace(
                lr=float(rate),
                decay=int(decay),
                seed=0,
                chunk=50,
                batch=1000,
                limit=arguments.limit,
                method=arguments.method,
            )
            run = jensen if name == "jensen" else harness.IMPLS[name]
            row = measure(harness, Clock, run, X, y, reference, sd, options)
            if name == "jensen":
                exact = np.linalg.inv(hessian)
                scale = np.sqrt(np.diag(exact))
                correlation = options.covariance / np.outer(*[np.sqrt(np.diag(options.covariance))] * 2)
                row |= {
                    "compile": options.compiled,
                    "verdict": options.fit.check().verdict,
                    "reasons": options.fit.check().reasons,
                    "status": options.fit.status,
                    "correlation_error": float(np.abs(correlation - exact / np.outer(scale, scale)).max()),
                    "gradients": options.fit.timings["gradients"],
                    "elbo": options.fit.elbo.value,
                }
            print(
                json.dumps(
                    {
                        "impl": name,
                        "schedule": schedule,
                        "n": arguments.n,
                        "d": arguments.d,
                        "mode_to_mean_in_sd": shift,
                        **row,
                    }
                ),
                flush=True,
            )
            if row["cpu_to_0.02"] is not None:
                best[name] = min(best.get(name, np.inf), row["cpu_to_0.02"])
    for name, seconds in best.items():
        if name != "jensen" and "jensen" in best:
            ratio = seconds / best["jensen"]
            print(f"CPU seconds to 0.02 sd: {name} {seconds:.2f} / jensen {best['jensen']:.2f} = {ratio:.1f}")


if __name__ == "__main__":
    main()
