"""Where the first fit of a process goes: tracing, lowering, compiling, the rest; without and with programs on disk.

    python benchmarks/compile.py [--only mixture schools ...]

Ten typical first fits, each in a process of its own, twice: with an empty folder of compiled programs, then with what
the first has left there. Wall seconds of `jn.fit` alone; JAX's own events say what went into which; compilation that
threads do side by side counts for each of them. The import of jensen and the making of data stand before the clock.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter

import numpy as np

EVENTS = {
    "/jax/core/compile/jaxpr_trace_duration": "trace",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lower",
    "/jax/core/compile/backend_compile_duration": "compile",
}
FITS = {
    "conjugate": ("normal", "auto"),
    "logistic": ("logistic", "auto"),
    "schools": ("schools", "auto"),
    "schools advi": ("schools", "advi"),
    "schools bbvi": ("schools", "bbvi"),
    "mixture": ("mixture", "auto"),
    "mixture cavi": ("mixture", "cavi"),
    "chain": ("markov", "auto"),
    "counts": ("counts", "auto"),
    "bits hvm": ("bits", "hvm"),
}


def _normal():
    import numpyro
    import numpyro.distributions as dist

    def model(y):
        mu = numpyro.sample("mu", dist.Normal(0, 10))
        tau = numpyro.sample("tau", dist.Gamma(1, 1))
        with numpyro.plate("rows", len(y)):
            numpyro.sample("y", dist.Normal(mu, 1 / tau**0.5), obs=y)

    return model, {"y": np.random.default_rng(0).normal(1, 2, 100)}


def _counts():
    """A Poisson regression with one effect a row: effects are integrated out."""
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    rng = np.random.default_rng(1)
    x = rng.normal(size=500)

    def model(x, y):
        a, b = numpyro.sample("a", dist.Normal(0, 2)), numpyro.sample("b", dist.Normal(0, 2))
        s = numpyro.sample("s", dist.HalfNormal(1))
        with numpyro.plate("rows", len(x)):
            z = numpyro.sample("z", dist.Normal(0, s))
            numpyro.sample("y", dist.Poisson(jnp.exp(a + b * x + z)), obs=y)

    return model, {"x": x, "y": rng.poisson(np.exp(0.5 + 0.5 * x + rng.normal(0, 0.5, 500)))}


def one(name: str) -> dict:
    """A fit in this process."""
    import defaults
    import jax.monitoring

    import jensen as jn

    row, method = FITS[name]
    model, data = {**defaults.ROWS, "normal": _normal, "counts": _counts}[row]()
    spent, programs = Counter(), 0

    def hear(event: str, seconds: float, **_: object) -> None:
        nonlocal programs
        if event in EVENTS:
            spent[EVENTS[event]] += seconds
            programs += EVENTS[event] == "compile"

    jax.monitoring.register_event_duration_secs_listener(hear)
    begin = time.perf_counter()
    jn.fit(model, data, method, progress=False)
    total = time.perf_counter() - begin
    return {**spent, "total": total, "rest": max(total - sum(spent.values()), 0.0), "programs": programs}


def main() -> None:
    """All fits, or one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(FITS))
    parser.add_argument("--one")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(arguments.one)))
        return
    heads = " ".join(f"{key:>{width}}" for key, width in COLUMNS)
    print(f"{'first fit':<14} {'':<5} {heads} {'programs':>9}")
    for name in arguments.only:
        with tempfile.TemporaryDirectory() as folder:
            known = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
            for state in ("cold", "warm"):
                command = [sys.executable, __file__, "--one", name]
                environment = {**known, "JENSEN_CACHE": folder}
                done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
                row = json.loads(done.stdout.splitlines()[-1])
                parts = " ".join(f"{row.get(key, 0.0):>{width}.2f}" for key, width in COLUMNS)
                print(f"{name:<14} {state:<5} {parts} {row['programs']:>9}", flush=True)


COLUMNS = (("total", 6), ("trace", 6), ("lower", 6), ("compile", 8), ("rest", 6))

if __name__ == "__main__":
    main()
