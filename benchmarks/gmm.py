"""Bayesian mixtures of Gaussians by coordinate ascent: CPU seconds for one sweep with its bound, or to a settled bound.

    python benchmarks/gmm.py --harness PATH [--n 1e6 --d 8 --k 50 --cov full] [--mode converge] [--peer sklearn]

PATH is the folder with `bench_gmm.py`, whose data, priors, initial responsibilities, peers and clock are used
unchanged; jensen is added as one more implementation. Every run is a process of its own, pinned to one core with one
BLAS thread; runs of jensen and the peer alternate, and the ratio is that of the medians.

`sweep`: the median CPU seconds between the ends of consecutive sweeps, the first left out. `converge`: CPU seconds from
the first state to a bound within 1e-3 nat per row of that run's last one; compilation, which belongs to the time before
the first state, is stated beside it; `cpu_to_peer` is the time to within 1e-3 of the peer's last bound instead. Both
are read off the harness's own bound. jensen evaluates its exact bound in every sweep, the peers evaluate none.

Memory: `peak_mb` is the rise of the peak resident memory during the fit, the data being in place before it.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
}


def ours(X, R0, q, cov, sweeps, snap, precision="double", relaxed=False):
    """Our side: the model of `mixtures.py`, started from the labels of the harness, then sweep by sweep."""
    import jax
    import numpy as np
    from mixtures import gaussian_mixture

    from jensen._conjugate.algebra import build_conjugate
    from jensen._conjugate.coordinate.plated import ascent_for
    from jensen._conjugate.coordinate.relaxation import Climb
    from jensen._math.clock import Stopwatch
    from jensen._math.precision import working

    first = q["nu0"] / (np.diag(q["S0"]) if cov == "full" else q["S0"])
    location = np.broadcast_to(q["m0"], X.shape[1]), (q["b0"] * first) ** -0.5
    scatter = (q["nu0"], q["S0"]) if cov == "full" else (np.full(X.shape[1], q["nu0"] / 2), q["S0"] / 2)
    mixture = gaussian_mixture(cov, np.full(R0.shape[1], q["a0"]), location, scatter)

    def parameters(state):
        moments = jax.device_get(state.moments)
        alpha = np.asarray(state.naturals["weights"]["log"]) + 1.0
        mass = alpha - q["a0"]
        nu = q["nu0"] + mass
        if cov == "full":
            scale = np.linalg.inv(moments["precision"]["matrix"]) * nu[:, None, None]
        else:
            scale = nu[:, None] / moments["tau"]["power"]
        return {"alpha": alpha, "m": moments["mu"]["z"], "beta": q["b0"] + mass, "nu": nu, "S": scale}

    watch, cpu = Stopwatch(), time.process_time()
    model = build_conjugate(mixture, {"x": X}, row_precision=precision)
    ours.build = time.process_time() - cpu
    labels = R0.argmax(1).astype(np.int32)
    with working("double"):
        ascent = ascent_for(model, {"c": labels})
        state = ascent.given(np.random.default_rng(0), {"c": labels})
        climb = Climb(ascent, 1e-8) if relaxed else None
        if climb:
            ascent.resumed(state.naturals, state, 1)
        ours.start = time.process_time() - cpu
        ours.timings = watch.read()
        snap(partial(parameters, state))
        while state.sweeps <= sweeps and not (climb and climb.settled(state)):
            state = climb.advance(state, sweeps) if climb else ascent.advance(state, 1)
            snap(partial(parameters, state))
    ours.elbo = state.elbo / len(X)


def one(arguments) -> None:
    """Run one implementation in this process and print its line."""
    sys.path.insert(0, str(arguments.harness))
    harness, common = importlib.import_module("bench_gmm"), importlib.import_module("common")
    import numpy as np

    X, test, R0, prior = harness.make(arguments.n, arguments.d, arguments.k, arguments.data, arguments.cov, 0)
    if arguments.one.startswith("jensen"):
        import mixtures  # noqa: F401  (imports are off the clock, as for the peers)
    before = _peak_mb(reset=True)
    clock, marks = common.Clock(), []

    def snap(parameters) -> None:
        mark = clock.now(), clock.cpu()
        with clock.pause():
            if arguments.mode == "sweep":
                marks[:] = [(m, None) for m, _ in marks]
            marks.append((mark, parameters()))

    if arguments.one.startswith("jensen"):
        precision = "single" if arguments.one.endswith("32") else "double"
        ours(X, R0, prior, arguments.cov, arguments.sweeps, snap, precision, arguments.mode == "converge")
    else:
        harness.IMPLS[arguments.one](X, R0, prior, arguments.cov, arguments.sweeps, snap)
    row = {"impl": arguments.one, "peak_mb": _peak_mb() - before, "data_mb": X.nbytes / 2**20, "cpu": clock.cpu()}
    steps = np.diff([cpu for (_, cpu), _ in marks])
    row["cpu_sweep"] = float(np.median(steps[1:] if len(steps) > 1 else steps))
    row["elbo_per_n"] = harness.elbo(X, marks[-1][1], prior, arguments.cov) / arguments.n
    row["heldout"] = harness.heldout(test, marks[-1][1], arguments.cov)
    if arguments.one.startswith("jensen"):
        row |= {"own_elbo_per_n": ours.elbo, "build_cpu": ours.build, "start_cpu": ours.start, **ours.timings}
    if arguments.mode == "converge":
        kept = marks[:: max(1, len(marks) // 200)] + marks[-1:]
        trace = [(cpu, harness.elbo(X, p, prior, arguments.cov) / arguments.n) for (_, cpu), p in kept]
        last = max(e for _, e in trace)
        row["best_elbo_per_n"] = last
        reached = next(i for i, (_, e) in enumerate(trace) if e >= last - 1e-3)
        row |= {"cpu_converge": trace[reached][0] - trace[0][0], "sweeps_converge": reached * max(1, len(marks) // 200)}
        row["trace"] = [(cpu - trace[0][0], bound) for cpu, bound in trace]
    print(json.dumps(row), flush=True)


def _peak_mb(reset: bool = False) -> float:
    """Peak resident memory of this process since the last reset, in MB."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Alternate the implementations in fresh processes, then print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--d", type=int, default=8)
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--cov", choices=["full", "diag"], default="full")
    parser.add_argument("--data", choices=["overlap", "sep"], default="overlap")
    parser.add_argument("--mode", choices=["sweep", "converge"], default="sweep")
    parser.add_argument("--sweeps", type=int, default=8)
    arguments, rows = compared(parser, __file__, ["jensen", "sklearn"], one)
    if not rows:
        return
    report(rows, "cpu_sweep" if arguments.mode == "sweep" else "cpu_converge")
    if arguments.mode == "converge":
        for peer in (name for name in rows if not name.startswith("jensen")):
            goal = min(row["best_elbo_per_n"] for row in rows[peer]) - 1e-3
            for row in (row for group in rows.values() for row in group):
                row["cpu_to_peer"] = next((cpu for cpu, bound in row["trace"] if bound >= goal), float("inf"))
            print(f"To within 1e-3 nat per row of the last bound of {peer}, {goal + 1e-3:.5f}:")
            report({name: rows[name] for name in rows if name == peer or name.startswith("jensen")}, "cpu_to_peer")


def compared(
    parser: argparse.ArgumentParser, script: str, names: list[str], one: Callable[[argparse.Namespace], None]
) -> tuple[argparse.Namespace, dict[str, list[dict]]]:
    """The options, and the lines of every implementation; no lines in a process that is itself `one` of the runs."""
    parser.add_argument("--harness", type=Path, required=True)
    parser.add_argument("--n", type=lambda s: int(float(s)), default=100_000)
    parser.add_argument("--impl", nargs="*", default=names)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--peer-python", default=sys.executable, help="the interpreter of the peers")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        one(given)
        return given, {}
    return given, alternate(script, sys.argv[1:], given.impl, given.repeats, given.core, given.peer_python)


def alternate(
    script: str, options: list[str], names: list[str], repeats: int, core: int, peer: str = sys.executable
) -> dict[str, list[dict]]:
    """The lines of every implementation, each from a pinned process of its own, interleaved; `peer` runs the peers."""
    rows: dict[str, list[dict]] = {name: [] for name in names}
    for _ in range(repeats):
        for name in names:
            done = subprocess.run(
                [sys.executable if name.startswith("jensen") else peer, script, *options, "--one", name],
                env={**os.environ, **ONE_THREAD},
                preexec_fn=lambda: os.sched_setaffinity(0, {core}),
                capture_output=True,
                text=True,
            )
            lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
            if not lines:
                raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
            rows[name].append(json.loads(lines[-1]))
            print({k: v for k, v in rows[name][-1].items() if k != "trace"}, flush=True)
    return rows


def report(rows: dict[str, list[dict]], key: str) -> None:
    """Medians of one figure, and peer / ours."""
    import statistics

    found = SimpleNamespace(**{n.replace("-", "_"): statistics.median(r[key] for r in g) for n, g in rows.items()})
    values = vars(found)
    for ours in (n for n in values if n.startswith("jensen")):
        for peer in (n for n in values if not n.startswith("jensen")):
            ratio = values[peer] / values[ours]
            print(f"{key}: {peer} {values[peer]:.4f} s / {ours} {values[ours]:.4f} s = {ratio:.1f}", flush=True)


if __name__ == "__main__":
    main()
