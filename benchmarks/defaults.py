"""What one default fit costs on models of the notes, and its check, beside coordinate ascent and scikit-learn.

    python benchmarks/defaults.py [--only mixture topics ...] [--methods auto cavi peer] [--repeats 3] [--warm]

Every row runs in a process of its own, without compiled programs on disk (with them: `--warm`), so that compilation is
part of the time. Processor seconds of all threads, import apart; of several runs the median. Peers are
scikit-learn's, where it is installed: they have no verdict.
"""

import argparse
import json
import os
import resource
import subprocess
import sys

import numpy as np


def _seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def mixture():
    """Unit-variance mixture of the notes: 500 rows, five components, two of them alike."""
    import numpyro
    import numpyro.distributions as dist

    rng, K = np.random.default_rng(0), 5
    centres = rng.normal(0, 5, K)
    x = rng.normal(centres[rng.integers(K, size=500)], 1.0)

    def model(x):
        with numpyro.plate("component", K):
            mean = numpyro.sample("mean", dist.Normal(0, 5))
        with numpyro.plate("row", len(x)):
            label = numpyro.sample("label", dist.Categorical(np.full(K, 1 / K)))
            numpyro.sample("x", dist.Normal(mean[label], 1), obs=x)

    return model, {"x": x}


def topics():
    """40 documents of 50 tokens, four topics over 30 words."""
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    rng = np.random.default_rng(0)
    D, L, K, V = 40, 50, 4, 30
    phi, theta = rng.dirichlet(np.full(V, 0.1), K), rng.dirichlet(np.full(K, 0.3), D)
    doc = np.repeat(np.arange(D), L)
    word = np.array([rng.choice(V, p=phi[rng.choice(K, p=theta[d])]) for d in doc])

    def model(word, doc):
        with numpyro.plate("topic", K):
            phi = numpyro.sample("phi", dist.Dirichlet(jnp.full(V, 0.1)))
        with numpyro.plate("document", D):
            theta = numpyro.sample("theta", dist.Dirichlet(jnp.full(K, 0.3)))
        with numpyro.plate("token", len(word)):
            z = numpyro.sample("z", dist.Categorical(theta[doc]))
            numpyro.sample("word", dist.Categorical(phi[z]), obs=word)

    return model, {"word": word, "doc": doc}


def markov():
    """A hidden Markov chain of 400 steps with three states, written as a scan."""
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist
    from numpyro.contrib.control_flow import scan

    rng = np.random.default_rng(0)
    K, T = 3, 400
    transition, centre = np.full((K, K), 0.05) + 0.85 * np.eye(K), np.array([-3.0, 0.0, 3.0])
    states = [0]
    for _ in range(T - 1):
        states.append(rng.choice(K, p=transition[states[-1]]))
    y = rng.normal(centre[np.array(states)], 1.0)

    def model(y):
        with numpyro.plate("state", K):
            rows = numpyro.sample("transition", dist.Dirichlet(jnp.ones(K)))
            mean = numpyro.sample("mean", dist.Normal(0, 5))
        first = numpyro.sample("first", dist.Categorical(jnp.full(K, 1 / K)))
        numpyro.sample("y0", dist.Normal(mean[first], 1), obs=y[0])

        def step(z, value):
            z = numpyro.sample("z", dist.Categorical(rows[z]))
            numpyro.sample("y", dist.Normal(mean[z], 1), obs=value)
            return z, None

        scan(step, first, y[1:])

    return model, {"y": y}


def factors():
    """Factor analysis of 300 rows in 8 dimensions, two factors."""
    import numpyro
    import numpyro.distributions as dist

    rng = np.random.default_rng(0)
    N, D, K = 300, 8, 2
    x = rng.normal(size=(N, K)) @ rng.normal(size=(K, D)) + 0.5 * rng.normal(size=(N, D))

    def model(x):
        with numpyro.plate("dimension", D):
            w = numpyro.sample("w", dist.Normal(0, 1).expand([K]).to_event(1))
            tau = numpyro.sample("tau", dist.Gamma(1, 1))
        with numpyro.plate("row", N):
            z = numpyro.sample("z", dist.Normal(0, 1).expand([K]).to_event(1))
            numpyro.sample("x", dist.Normal(z @ w.T, tau**-0.5).to_event(1), obs=x)

    return model, {"x": x}


def diagonal():
    """A diagonal mixture of 4,000 rows in two dimensions, seven components four sd apart."""
    import numpyro
    import numpyro.distributions as dist

    rng = np.random.default_rng(0)
    K, N, D = 7, 4000, 2
    centres = [rng.uniform(-12, 12, D)]
    while len(centres) < K:
        new = rng.uniform(-12, 12, D)
        if min(np.linalg.norm(new - c) for c in centres) > 4.5:
            centres.append(new)
    x = np.stack(centres)[rng.integers(K, size=N)] + rng.normal(size=(N, D))

    def model(x, K):
        weights = numpyro.sample("weights", dist.Dirichlet(np.ones(K)))
        with numpyro.plate("component", K):
            tau = numpyro.sample("tau", dist.Gamma(2.0, 2.0).expand([x.shape[1]]).to_event(1))
            mean = numpyro.sample("mean", dist.Normal(0.0, 10.0).expand([x.shape[1]]).to_event(1))
        with numpyro.plate("row", len(x)):
            z = numpyro.sample("z", dist.Categorical(weights))
            numpyro.sample("x", dist.Normal(mean[z], tau[z] ** -0.5).to_event(1), obs=x)

    return model, {"x": x, "K": K}


def logistic():
    """Logistic regression of 100,000 rows on 50 columns."""
    import numpyro
    import numpyro.distributions as dist

    rng = np.random.default_rng(0)
    X = rng.normal(size=(100_000, 50))
    y = (rng.uniform(size=len(X)) < 1 / (1 + np.exp(-X @ rng.normal(0, 0.3, 50)))).astype(int)

    def model(X, y):
        w = numpyro.sample("w", dist.Normal(0, 1).expand([X.shape[1]]).to_event(1))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Bernoulli(logits=X @ w), obs=y)

    return model, {"X": X, "y": y}


def schools():
    """Eight schools, centred, for black-box VI."""
    import numpyro
    import numpyro.distributions as dist

    sigma = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
    y = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])

    def model(sigma, y):
        mu = numpyro.sample("mu", dist.Normal(0, 5))
        tau = numpyro.sample("tau", dist.HalfCauchy(5))
        with numpyro.plate("school", len(sigma)):
            theta = numpyro.sample("theta", dist.Normal(mu, tau))
            numpyro.sample("y", dist.Normal(theta, sigma), obs=y)

    return model, {"sigma": sigma, "y": y}


def bits():
    """Two dependent bits, for hierarchical variational models."""
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    def model(log_p):
        with numpyro.plate("bit", 2):
            z = numpyro.sample("z", dist.Bernoulli(0.5))
        numpyro.factor("table", jnp.asarray(log_p)[z[0], z[1]] + 2 * np.log(2.0))

    return model, {"log_p": np.log(np.array([[0.1, 0.4], [0.4, 0.1]]))}


def peer_of(name: str, data: dict) -> tuple[float, str]:
    """(processor seconds of scikit-learn's method with its defaults, what it found)."""
    from sklearn import decomposition, linear_model
    from sklearn.mixture import BayesianGaussianMixture

    begin = _seconds()
    if name == "mixture":
        found = BayesianGaussianMixture(n_components=5, random_state=0).fit(data["x"][:, None])
        said = f"weights {np.sort(found.weights_).round(2)}"
    elif name == "diagonal":
        found = BayesianGaussianMixture(n_components=data["K"], covariance_type="diag", random_state=0).fit(data["x"])
        said = f"{(found.weights_ > 0.02).sum()} of {data['K']} components"
    elif name == "topics":
        counts = np.zeros((data["doc"].max() + 1, data["word"].max() + 1))
        np.add.at(counts, (data["doc"], data["word"]), 1)
        prior = {"doc_topic_prior": 0.3, "topic_word_prior": 0.1}
        decomposition.LatentDirichletAllocation(4, random_state=0, **prior).fit(counts)
        said = ""
    elif name == "factors":
        decomposition.FactorAnalysis(2).fit(data["x"])
        said = ""
    elif name == "logistic":
        linear_model.LogisticRegression(C=1.0).fit(data["X"], data["y"])
        said = ""
    else:
        return float("nan"), "none"
    return _seconds() - begin, said


ROWS = {f.__name__: f for f in (mixture, topics, markov, factors, diagonal, logistic, schools, bits)}
OWN = {"schools": ["bbvi"], "bits": ["hvm"]}
"""Rows that are for other methods than those asked for."""


def one(name: str, method: str) -> dict:
    """A row in this process."""
    if method == "peer":
        seconds, said = peer_of(name, ROWS[name]()[1])
        return {"fit": seconds, "check": float("nan"), "verdict": said, "elbo": float("nan"), "status": ""}
    import jensen as jn

    model, data = ROWS[name]()
    begin = _seconds()
    fit = jn.fit(model, data, method, progress=False)
    middle = _seconds()
    report = fit.check()
    end = _seconds()
    out = {"fit": middle - begin, "check": end - middle, "verdict": report.verdict, "elbo": fit.elbo.value}
    out |= {"status": fit.status, "reasons": report.reasons, "checks": [vars(c) for c in report.checks if not c.passed]}
    weights = fit.sample(200, raw=True).get("weights") if name == "diagonal" else None
    if weights is not None:
        out["components"] = int((weights.mean(axis=0) > 0.02).sum())
    evidence = fit.evidence()
    return out | {"log_evidence": evidence.log_evidence, "interval": evidence.interval, "khat": report.khat}


def process_environment(warm: bool) -> dict[str, str]:
    """That of a row's process: without compiled programs on disk unless `warm`."""
    if warm:
        return dict(os.environ)
    return {**{k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}, "JENSEN_CACHE": "off"}


def main() -> None:
    """All rows, or one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(ROWS))
    parser.add_argument("--methods", nargs="*", default=["auto", "cavi", "peer"])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--limit", type=float, default=300.0)
    parser.add_argument("--warm", action="store_true")
    parser.add_argument("--one", nargs=2)
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(*arguments.one), default=str))
        return
    environment = process_environment(arguments.warm)
    print(f"CPU s, median of {arguments.repeats}; verdict, bound, evidence, k of p/q")
    print(f"{'row':<9} {'method':<6} {'fit':>7} {'check':>7}")
    for name in arguments.only:
        for method in OWN.get(name, arguments.methods):
            runs = []
            for _ in range(arguments.repeats):
                command = [sys.executable, __file__, "--one", name, method]
                try:
                    options = {"capture_output": True, "text": True, "timeout": arguments.limit, "env": environment}
                    done = subprocess.run(command, **options)
                    runs.append(json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None)
                    if done.returncode:
                        print(done.stderr[-800:])
                except subprocess.TimeoutExpired:
                    runs.append(None)
            known = [run for run in runs if run]
            if not known:
                print(f"{name:<9} {method:<6} none within {arguments.limit:.0f} s", flush=True)
                continue
            fit, check = (float(np.median([run[key] for run in known])) for key in ("fit", "check"))
            last = known[-1]
            said = [last["verdict"], f"{last['elbo']:.2f}"]
            if "log_evidence" in last:
                said += [f"{last['log_evidence']:.2f}", f"k {last['khat']:.2f}"]
            said += [f"{last['components']} components"] if "components" in last else []
            print(f"{name:<9} {method:<6} {fit:>7.2f} {check:>7.2f}  {', '.join(said)}", flush=True)
            if arguments.verbose:
                print(f"    {last['status']}\n    {last.get('reasons')}", flush=True)


if __name__ == "__main__":
    main()
