"""Mixtures of Gaussians: the optimum that `cavi` finds in one fit, beside the best of ten starts of scikit-learn.

    python benchmarks/mixtures.py [--only 0 3 7] [--most-rows 1e4] [--real] [--seed 0] [--peers FILE]

40 synthetic mixtures (K 5 to 50, D 2 to 30, N 1e3 to 1e5, nearest centres 2.5 to 6 sd apart, diagonal and full
covariances) and, with `--real`, iris, wine and breast cancer. For every one:

    bound     the exact bound of one `cavi` fit, with all defaults, less that of the best peer (nats). The peers are
              `BayesianGaussianMixture` and `GaussianMixture` with n_init=10; from the labels of each, coordinate ascent
              on the same model is run to convergence without moves, so that the bounds are of one kind.
    found     true components whose centre has a fitted mean within half the distance to its nearest neighbour, one for
              one; beside it the same for each peer and for `BayesianGaussianMixture` with n_init=1.
    over      the bound less that of coordinate ascent from the true labels. Where it is positive a missing component
              is what the model says (few rows do not pay for a covariance of their own), not a poor optimum.
    cpu       CPU seconds of the fit, and of `BayesianGaussianMixture` with n_init=1. The fit is made twice, the first
              compiles; both are shown.

`--default` compares a second default fit, which compiles nothing, with a second one by `cavi`: CPU seconds and bounds.
With `--peers` it does so beside the table, without it alone.

`--peers FILE` keeps what the peers found, which takes most of the time, for the next run. Use one BLAS thread.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from jensen._conjugate.cavi import CAVI

COUNT = 40


def cases() -> list[dict]:
    """The design: every size drawn once and again, those left out that hold too few rows or too much work."""
    rng, found = np.random.default_rng(27), []
    while len(found) < COUNT:
        n, k = int(rng.choice([1000, 3000, 10_000, 30_000, 100_000])), int(rng.choice([5, 10, 20, 50]))
        d, sep = int(rng.choice([2, 5, 10, 30])), float(rng.choice([2.5, 3.0, 4.0, 5.0, 6.0]))
        cov = ["diag", "full"][len(found) % 2]
        parameters = d if cov == "diag" else d * d
        if n >= 30 * k and n >= 2 * k * parameters and n * k * parameters <= 2e8:
            found.append({"n": n, "k": k, "d": d, "sep": sep, "cov": cov})
    return found


def made(case: dict, seed: int) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """(rows, (centres, labels)): evenly scattered centres, the nearest two `sep` apart, sds about one."""
    rng = np.random.default_rng(seed)
    k, d = case["k"], case["d"]
    centres = rng.normal(size=(1, d))
    while len(centres) < k:
        tries = rng.normal(size=(10, d))
        near = np.sqrt(((tries[:, None] - centres) ** 2).sum(-1)).min(axis=1)
        centres = np.concatenate([centres, tries[near.argmax()][None]])
    gaps = np.sqrt(((centres[:, None] - centres) ** 2).sum(-1)) + np.diag(np.full(k, np.inf))
    centres *= case["sep"] / gaps.min()
    labels = rng.choice(k, case["n"], p=rng.dirichlet(np.full(k, 20.0)))
    noise = rng.normal(size=(case["n"], d)) * rng.uniform(0.7, 1.3, (k, d))[labels]
    if case["cov"] == "full":
        turns = np.linalg.qr(rng.normal(size=(k, d, d)))[0]
        noise = np.einsum("nd,nde->ne", noise, turns[labels])
    return centres[labels] + noise, (centres, labels)


def mixture(x: np.ndarray, k: int, cov: str):
    """The model with vague priors on the scale of the data."""
    d, at, spread = x.shape[1], x.mean(axis=0), x.var(axis=0)
    scatter = (d + 2.0, np.diag(0.01 * spread)) if cov == "full" else (np.ones(d), 0.005 * spread)
    return gaussian_mixture(cov, np.ones(k), (at, 5.0 * np.sqrt(spread)), scatter)


def gaussian_mixture(cov: str, counts: np.ndarray, location: tuple, scatter: tuple):
    """The model as a user writes it: weights ~ Dirichlet(counts), means ~ Normal(*location) entry by entry, precisions
    ~ Wishart(degrees, rate matrix) for full covariances and Gamma(shapes, rates) for diagonal ones.
    """

    def model(x):
        weights = numpyro.sample("weights", dist.Dirichlet(counts))
        with numpyro.plate("component", len(counts)):
            if cov == "full":
                precision = numpyro.sample("precision", dist.Wishart(scatter[0], rate_matrix=scatter[1]))
                mu = numpyro.sample("mu", dist.MultivariateNormal(location[0], np.diag(location[1] ** 2)))
            else:
                tau = numpyro.sample("tau", dist.Gamma(*scatter).to_event(1))
                mu = numpyro.sample("mu", dist.Normal(*location).to_event(1))
        with numpyro.plate("row", len(x)):
            c = numpyro.sample("c", dist.Categorical(weights))
            if cov == "full":
                numpyro.sample("x", dist.MultivariateNormal(mu[c], precision_matrix=precision[c]), obs=x)
            else:
                numpyro.sample("x", dist.Normal(mu[c], 1 / jnp.sqrt(tau[c])).to_event(1), obs=x)

    return model


def found(centres: np.ndarray | None, means: np.ndarray) -> int:
    """Centres with a mean of their own nearer than half way to the next centre."""
    if centres is None:
        return 0
    gaps = np.sqrt(((centres[:, None] - centres) ** 2).sum(-1)) + np.diag(np.full(len(centres), np.inf))
    near = np.sqrt(((centres[:, None] - means) ** 2).sum(-1))
    return len(set(near.argmin(axis=1)[near.min(axis=1) < 0.5 * gaps.min(axis=1)]))


def peers(x: np.ndarray, k: int, cov: str) -> dict:
    """Labels, means and CPU seconds of scikit-learn's fits."""
    from sklearn.mixture import BayesianGaussianMixture, GaussianMixture

    rows, small = {}, 0.01 * x.var(axis=0)
    prior = {"covariance_prior": small if cov == "diag" else np.diag(small)}
    kinds = {
        "bgm1": (BayesianGaussianMixture, 1),
        "bgm10": (BayesianGaussianMixture, 10),
        "gm10": (GaussianMixture, 10),
    }
    for name, (kind, starts) in kinds.items():
        own = {} if kind is GaussianMixture else prior
        clock = time.process_time()
        fit = kind(n_components=k, covariance_type=cov, n_init=starts, random_state=0, **own).fit(x)
        cpu = time.process_time() - clock
        rows[name] = {"cpu": cpu, "labels": fit.predict(x).tolist(), "means": fit.means_.tolist()}
    return rows


def measured(case: dict, x: np.ndarray, truth: tuple[np.ndarray, np.ndarray] | None, theirs: dict, seed: int) -> dict:
    """One line of the table."""
    centres = None if truth is None else truth[0]
    model, method = mixture(x, case["k"], case["cov"]), CAVI()
    times = []
    for once in (seed + 1, seed):
        clock = time.process_time()
        fit = method.fit_conjugate(model, {"x": x}, seed=once)
        times.append(time.process_time() - clock)
    row = {**case, "first": times[0], "cpu": times[1], "elbo": fit.elbo, "found": found(centres, fit.means()["mu"])}
    for name, one in theirs.items():
        row[f"{name}_cpu"], row[f"{name}_found"] = one["cpu"], found(centres, np.array(one["means"]))
        if name != "bgm1":
            labels = np.array(one["labels"])
            row[f"{name}_elbo"] = method.fit_conjugate(model, {"x": x}, seed=seed, init={"c": labels}).elbo
    row["gain"] = row["elbo"] - max(row["bgm10_elbo"], row["gm10_elbo"])
    if truth is not None:
        row["over"] = row["elbo"] - method.fit_conjugate(model, {"x": x}, seed=seed, init={"c": truth[1]}).elbo
    row["status"] = fit.status
    return row


def beside(case: dict, x: np.ndarray, seed: int) -> dict:
    """A default fit and one by `cavi`: CPU seconds of a second fit, which compiles nothing, and bounds."""
    import jensen as jn

    row, model = dict(case), mixture(x, case["k"], case["cov"])
    for method in ("cavi", "auto"):
        jn.fit(model, {"x": x}, method, seed=seed, progress=False)
        clock = time.process_time()
        fit = jn.fit(model, {"x": x}, method, seed=seed, progress=False)
        row[f"{method}_cpu"] = time.process_time() - clock
        row[f"{method}_elbo"] = fit.elbo.value
    return row


def summed(rows: list[dict]) -> None:
    """The figures of the reach."""
    enough = [row["gain"] >= -1e-6 * row["n"] * row["d"] for row in rows]
    far = [row for row in rows if row.get("sep", 0.0) >= 4.0]
    print(f"bound at least the best peer's: {sum(enough)} of {len(rows)}")
    for who in ("found", "bgm1_found", "bgm10_found", "gm10_found"):
        if far:
            print(f"all components of those at 4 sd or more, {who}: {sum(r[who] == r['k'] for r in far)} of {len(far)}")
    fine = sum(row["found"] == row["k"] or row["over"] > 0.0 for row in far)
    print(f"all of them, or a bound above that of the true labels: {fine} of {len(far)}")
    print(f"CPU s: cavi {sum(r['cpu'] for r in rows):.1f} (first fits {sum(r['first'] for r in rows):.1f}), ", end="")
    print(f"scikit-learn n_init=1 {sum(r['bgm1_cpu'] for r in rows):.1f}")


def real() -> list[tuple[dict, np.ndarray, None]]:
    """Three data sets of scikit-learn, standardised."""
    from sklearn import datasets

    rows = []
    for name, k in (("iris", 3), ("wine", 3), ("breast_cancer", 2)):
        x = getattr(datasets, f"load_{name}")().data
        x = (x - x.mean(axis=0)) / x.std(axis=0)
        rows.append(({"name": name, "n": len(x), "k": k, "d": x.shape[1], "cov": "full"}, x, None))
    return rows


def main() -> None:
    """Run the cases asked for; one JSON line for each, then the sums."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=int, nargs="*")
    parser.add_argument("--most-rows", type=float, default=1e5)
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--default", action="store_true")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    todo = [(case, *made(case, 100 + i), i) for i, case in enumerate(cases())]
    todo = [t for t in todo if (given.only is None or t[3] in given.only) and t[0]["n"] <= given.most_rows]
    todo += [(*t, t[0]["name"]) for t in real()] if given.real else []
    rows = []
    for case, x, truth, number in todo:
        if given.default and not given.peers:
            rows.append(beside(case, x, given.seed))
            print(json.dumps({"case": number, **rows[-1]}), flush=True)
            continue
        kept = given.peers and given.peers / f"{number}.json"
        if kept and kept.exists():
            theirs = json.loads(kept.read_text())
        else:
            theirs = peers(x, case["k"], case["cov"])
            if kept:
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(json.dumps(theirs))
        both = beside(case, x, given.seed) if given.default else {}
        rows.append({**both, **measured(case, x, truth, theirs, given.seed)})
        short = {k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()}
        print(json.dumps({"case": number, **short}), flush=True)
    if given.default:
        auto, cavi = (sum(row[f"{method}_cpu"] for row in rows) for method in ("auto", "cavi"))
        lower = sum(row["auto_elbo"] < row["cavi_elbo"] - 1e-6 * row["n"] for row in rows)
        print(f"CPU s without compilation: default {auto:.1f}, cavi {cavi:.1f}, ratio {auto / cavi:.2f}; ", end="")
        print(f"bounds of the default below those of cavi: {lower}")
    if given.peers or not given.default:
        summed(rows)


if __name__ == "__main__":
    main()
