"""Linear regression with one relevance (ARD) precision for each weight: CPU seconds for the whole fit.

    python benchmarks/ard.py --harness PATH [--n 1e5 --d 100] [--impl jensen jensen-cold sk_ard]

PATH is the folder with `bench_linreg.py`, whose data, priors, peers and clock are used unchanged. `jensen-cold` is the
first fit of a process: analysis, tracing and compilation included. `jensen` is a fit of other data after an earlier one
of the same shapes: the analysis and the programs are found again, and everything that depends on the data is done anew,
its conversion and checks included; the peers too are imported and warmed up off the clock. Every run is a process of
its own on one core with one BLAS thread; runs alternate, and the ratio is that of the medians.
"""

import argparse
import importlib
import json
import sys

from gmm import compared, report


def regression(X, y):
    """The regression as a user writes it."""
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    with numpyro.plate("feature", X.shape[1]):
        alpha = numpyro.sample("alpha", dist.Gamma(1e-6, 1e-6))
        w = numpyro.sample("w", dist.Normal(0, 1 / jnp.sqrt(alpha)))
    tau = numpyro.sample("tau", dist.Gamma(1e-6, 1e-6))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ w, 1 / jnp.sqrt(tau)), obs=y)


def ours(X, y, warm: bool):
    """(means, covariance, noise precision, figures) of one fit by coordinate ascent."""
    import numpy as np

    from jensen._conjugate.cavi import CAVI
    from jensen._math.clock import Stopwatch

    def fit(X, y):
        return CAVI().fit_conjugate(regression, {"X": X, "y": y})

    if warm:
        fit(X[::-1].copy(), y[::-1].copy())

    def measured(clock):
        watch = Stopwatch()
        clock.reset()
        found = fit(X, y)
        seconds = clock.cpu()
        factor = found.q.factor("w")
        figures = {"cpu": seconds, **watch.read(), "sweeps": len(found.history), "elbo": found.elbo}
        return np.asarray(factor.loc), np.asarray(factor.covariance), float(found.means()["tau"]), figures

    return measured


def one(arguments) -> None:
    """Run one implementation in this process and print its line."""
    sys.path.insert(0, str(arguments.harness))
    harness, common = importlib.import_module("bench_linreg"), importlib.import_module("common")
    import numpy as np

    X, y, test, answers = harness.make(arguments.n, arguments.d, 0)
    reference = harness.cavi(X, y, True, lambda: None)
    clock = common.Clock()
    if arguments.one.startswith("jensen"):
        import jensen  # noqa: F401  (imports are off the clock, as for the peers)

        mean, covariance, noise, figures = ours(X, y, arguments.one == "jensen")(clock)
    else:
        harness.IMPLS[arguments.one](X[:200].copy(), y[:200], lambda: None)
        clock.reset()
        mean, covariance, noise = harness.IMPLS[arguments.one](X, y, lambda: None)[:3]
        figures = {"cpu": clock.cpu()}
    variance = 1 / noise + np.einsum("nd,de,ne->n", test, covariance, test)
    error = answers - test @ mean
    row = {
        "impl": arguments.one,
        **figures,
        "heldout": float(np.mean(-0.5 * np.log(2 * np.pi * variance) - 0.5 * error**2 / variance)),
        "max_deviation_sd": float(np.max(np.abs(mean - reference[0]) / np.sqrt(np.diag(reference[1])))),
    }
    print(json.dumps(row), flush=True)


def main() -> None:
    """Alternate the implementations in fresh processes, then print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--d", type=int, default=100)
    _, rows = compared(parser, __file__, ["jensen", "jensen-cold", "sk_ard"], one)
    if rows:
        report(rows, "cpu")


if __name__ == "__main__":
    main()
