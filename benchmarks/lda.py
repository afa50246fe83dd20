"""Topic models on real text: CPU seconds of `jn.svi` to the held-out score that each peer has after --limit seconds.

    python benchmarks/lda.py --harness PATH [--k 20] [--impl jensen sklearn_online gensim] [--limit 40] [--seed 0]

PATH is the folder with `bench_lda.py`, whose documents, held-out scoring, priors, peers and clock are used unchanged
(BENCH_DATA names the folder of the documents). The model is the program below: words of a document by counts, padded
to a few lengths; nothing of the method knows that it is a topic model. As for the peers compiled by numba, compilation
is left out of the clock: a first fit of the same shapes compiles everything, and is stated. Pin the process to one core
(taskset, one BLAS thread, XLA_FLAGS=--xla_cpu_multi_thread_eigen=false): the figures are CPU seconds.
"""

import argparse
import importlib
import json
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from jensen._conjugate.svi import SVI
from jensen._math.precision import working
from jensen.data import Ragged


def topics(word, count, num_topics, num_words, alpha, eta):
    """Latent Dirichlet allocation by counts: `count` tokens of `word`, which share the topic's distribution."""
    rows, length = word.shape
    with numpyro.plate("topic", num_topics):
        phi = numpyro.sample("phi", dist.Dirichlet(jnp.full(num_words, eta)))
    with numpyro.plate("document", rows, dim=-2):
        theta = numpyro.sample("theta", dist.Dirichlet(jnp.full(num_topics, alpha)))
        with numpyro.plate("entry", length, dim=-1), numpyro.handlers.scale(scale=count):
            z = numpyro.sample("z", dist.Categorical(theta))
            numpyro.sample("w", dist.Categorical(phi[z]), obs=word)


def jensen(X, K, alpha, eta, limit, snap, seed, batch_size) -> dict[str, float]:
    """`jn.svi` from a cold start, single precision; a first pass of the same shapes compiles everything."""
    del limit
    row = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    shared = {"num_topics": K, "num_words": X.shape[1], "alpha": alpha, "eta": eta}
    method = SVI()
    times = {}
    clock = time.process_time()
    with working("single"):

        def run():
            source = Ragged({"word": X.indices, "count": X.data}, row, batch_size, shared=shared)
            return method.run(method.prepare(topics, source, "single"), seed)

        for progress in run():
            if progress.phase == "minibatch" and progress.step >= 2:
                break
        times["compile_and_first"] = time.process_time() - clock
        snap(None)
        for progress in run():
            if progress.phase == "ascent":  # exact sweeps, long after the peers' score
                break
            factor = progress.q().held().factors["phi"]
            jax.block_until_ready(factor.natural)

            def current(factor=factor):
                return np.asarray(factor.means()[0], float)

            if not snap(current):
                break
    return times


def measure(harness, clock, name, X, K, arguments) -> tuple[list, dict]:
    """(snapshots as (CPU seconds, topics), extras) of one implementation."""
    alpha, eta = 5.0 / K, 0.05
    snapshots, state = [], {"next": 0.0, "start": None}

    def snap(found) -> bool:
        if state["start"] is None:
            state["start"] = clock.cpu()
            if found is None:
                return True
        now = clock.cpu() - state["start"]
        if now >= state["next"] or now >= arguments.limit:
            with clock.pause():
                snapshots.append((now, np.asarray(found(), np.float32)))
            state["next"] = max(now * 1.15, now + 0.05)
        return now < arguments.limit

    if name == "jensen":
        return snapshots, jensen(X, K, alpha, eta, arguments.limit, snap, arguments.seed, arguments.batch_size)
    state["start"] = clock.cpu()
    harness.IMPLS[name](X, K, alpha, eta, arguments.limit, snap, arguments.seed)
    return snapshots, {}


def main() -> None:
    """Run each implementation on the same documents; one JSON line apiece, then the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--harness", type=Path, required=True)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--impl", nargs="*", default=["jensen", "sklearn_online"])
    parser.add_argument("--limit", type=float, default=40.0)
    parser.add_argument("--ours", type=float, default=8.0, help="seconds for jensen, which needs fewer")
    parser.add_argument("--batch-size", type=int, default=2000)
    parser.add_argument("--data", default="full")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.harness))
    harness, Clock = importlib.import_module("bench_lda"), importlib.import_module("common").Clock
    X, held_out = harness.load(arguments.data)
    halves = harness.split(held_out)
    curves: dict[str, list] = {}
    limit = arguments.limit
    for name in arguments.impl:
        arguments.limit = arguments.ours if name == "jensen" else limit
        clock = Clock()
        clock.reset()
        snapshots, extras = measure(harness, clock, name, X, arguments.k, arguments)
        curve = [(cpu, harness.score(phi, halves, 5.0 / arguments.k)) for cpu, phi in snapshots]
        curves[name] = curve
        row = {"impl": name, "k": arguments.k, "documents": X.shape[0], **extras, "curve": curve}
        print(json.dumps(row), flush=True)
    for name, curve in curves.items():
        if name != "jensen" and "jensen" in curves:
            score = curve[-1][1]
            reached = next((cpu for cpu, value in curves["jensen"] if value >= score), None)
            ratio = f"{curve[-1][0] / reached:.1f}" if reached else "not reached"
            print(
                f"K = {arguments.k}: {name} {score:.4f} after {curve[-1][0]:.1f} s; jensen after {reached} s: {ratio}"
            )


if __name__ == "__main__":
    main()
