"""Accuracy and honesty on posteriordb: fit each posterior, score its draws against reference draws, and time it.

    python benchmarks/posteriordb.py --db PATH [--posterior NAME ...] [--method auto] [--peer nuts ...] [--out FILE]

PATH is a folder in posteriordb's layout with NumPyro models (numpyro_models/MODEL.py: `model`, `prepare`); the
evaluator `posteriordb_eval.py` is looked for in --evaluator, by default the folder `bench` beside PATH. A model whose
support depends on another latent is replaced by the module's `model_static`, where it has one. FILE is JSON.

Scored are the draws that `fit.sample` gives by default. PASS: every mean within 0.3 sd and every sd ratio in
[0.7, 1.4]; strict: 0.1 and [0.9, 1.1]. A *silent failure* is a verdict of trusted on draws that do not PASS; a *false
alarm* is untrusted on draws that do. Times are wall seconds from model and data to scored draws, verdict and
compilation included.
"""

import argparse
import importlib.util
import json
import sys
import time
import traceback
from pathlib import Path

import numpy as np

import jensen as jn
from jensen._math.clock import Stopwatch

sys.path.insert(0, str(Path(__file__).parent))
from peers import PEERS


def load_evaluator(folder: Path):
    """The scoring module."""
    spec = importlib.util.spec_from_file_location("posteriordb_eval", folder / "posteriordb_eval.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def static_model(module):
    """The module's model, or its version with fixed supports."""
    return getattr(module, "model_static", module.model)


def run_jensen(module, data, method: str, num_draws: int, seed: int) -> dict:
    """Fit, judge and draw; figures of one posterior."""
    watch = Stopwatch()
    cpu = time.process_time()
    try:
        fit = jn.fit(module.model, data, method, seed=seed, progress=False)
    except jn.ModelError as error:
        if "support" not in error.what or not hasattr(module, "model_static"):
            raise
        fit = jn.fit(module.model_static, data, method, seed=seed, progress=False)
    assert fit.target is not None
    report = fit.check()
    draws = fit.sample(num_draws, seed=seed)
    seconds = watch.read()
    return {
        "draws": draws,
        "verdict": report.verdict,
        "reasons": list(report.reasons),
        "khat": report.khat,
        "khat_corrected": report.khat_corrected,
        "ess": report.ess,
        "checks": {c.name: c.value for c in report.checks},
        "elbo": fit.elbo.value,
        "stages": list(fit.outcome.stages),
        "status": fit.status,
        "seconds": seconds["total"],
        "compile": seconds["compile"],
        "run": seconds["run"],
        "cpu": time.process_time() - cpu,
        "gradients": fit.target.gradients + fit.target.values,
    }


def score(evaluator, figures: dict, reference: dict) -> dict:
    """Add the evaluator's rules to the figures and drop the draws."""
    result = evaluator.evaluate(figures.pop("draws"), reference)
    keep = ("pass", "strict", "max_mean_err", "min_sd_ratio", "max_sd_ratio", "worst_param", "finite")
    return {**{key: result[key] for key in keep}, **figures}


def row(name: str, r: dict) -> str:
    """One line of the table."""
    flag = (
        "SILENT"
        if r.get("verdict") == "trusted" and not r["pass"]
        else ("false alarm" if r.get("verdict") == "untrusted" and r["pass"] else "")
    )
    return (
        f"{name:48.48} {'PASS' if r['pass'] else 'fail':4} {'strict' if r['strict'] else '':6} "
        f"{r['max_mean_err']:7.3f} [{r['min_sd_ratio']:5.2f} {r['max_sd_ratio']:5.2f}] {r.get('verdict', ''):10} "
        f"{r.get('khat', float('nan')):5.2f} {r['seconds']:6.2f} {r.get('compile', float('nan')):6.2f} "
        f"{r.get('run', float('nan')):6.2f} {r.get('gradients', 0):8d} {flag}"
    )


HEADER = (
    f"{'posterior':48} {'':4} {'':6} {'mean':>7} [{'sd lo':>5} {'hi':>5}] {'verdict':10} {'k':>5} "
    f"{'wall s':>6} {'comp.':>6} {'run':>6} {'logdens.':>8}"
)


def totals(results: dict) -> dict:
    """Counts over posteriors."""
    done = [r for r in results.values() if "error" not in r]
    return {
        "posteriors": len(results),
        "crashed": len(results) - len(done),
        "pass": sum(r["pass"] for r in done),
        "strict": sum(r["strict"] for r in done),
        "silent_failures": sum(r.get("verdict") == "trusted" and not r["pass"] for r in done),
        "false_alarms": sum(r.get("verdict") == "untrusted" and r["pass"] for r in done),
        "verdicts": {v: sum(r.get("verdict") == v for r in done) for v in ("trusted", "usable", "untrusted")},
        "seconds": sum(r["seconds"] for r in done),
        "compile": sum(r.get("compile", 0.0) for r in done),
        "cpu": sum(r.get("cpu", 0.0) for r in done),
    }


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--db", type=Path, required=True)
    parser.add_argument("--evaluator", type=Path)
    parser.add_argument("--posterior", nargs="*", help="names, or parts of names; default all")
    parser.add_argument("--method", default="auto")
    parser.add_argument("--peer", nargs="*", default=[], choices=sorted(PEERS))
    parser.add_argument("--draws", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    evaluator = load_evaluator(options.evaluator or options.db.parent / "bench")
    names = [
        n
        for n in evaluator.list_posteriors(options.db)
        if not options.posterior or any(part in n for part in options.posterior)
    ]
    report: dict = {"method": options.method, "seed": options.seed, "results": {}, "peers": {}}
    runners = {"jensen": lambda m, d: run_jensen(m, d, options.method, options.draws, options.seed)}
    runners |= {p: (lambda m, d, p=p: PEERS[p](static_model(m), d, options.seed)) for p in options.peer}
    for runner, run in runners.items():
        print(f"\n{runner} ({options.method})" if runner == "jensen" else f"\n{runner}")
        print(HEADER)
        results: dict = {}
        for name in names:
            module = evaluator.load_model(options.db, name)
            data = module.prepare(evaluator.load_data(options.db, name))
            try:
                results[name] = score(evaluator, run(module, data), evaluator.load_reference(options.db, name))
                print(row(name, results[name]), flush=True)
            except Exception as error:
                results[name] = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
                print(f"{name:48.48} CRASH {results[name]['error'][:120]}", flush=True)
        summary = totals(results)
        print(json.dumps(summary))
        if runner == "jensen":
            for name, r in results.items():
                if r.get("verdict") == "untrusted" or not r.get("pass", False):
                    print(f"  {name}: {' '.join(r.get('reasons', [r.get('error', '')]))}")
            report["results"], report["totals"] = results, summary
        else:
            report["peers"][runner] = {"results": results, "totals": summary}
            ratio = report["totals"]["seconds"] / max(summary["seconds"], 1e-9)
            print(f"wall seconds of jensen / {runner}: {ratio:.3f}")
    if options.out:
        options.out.write_text(json.dumps(report, indent=1, default=lambda v: np.asarray(v).tolist()))


if __name__ == "__main__":
    main()
