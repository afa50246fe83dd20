"""EM for a Gaussian mixture with full covariances: CPU seconds per iteration, ours against scikit-learn's.

    taskset -c 1 python benchmarks/em.py [--n 1e5 --d 8 --k 10 --iterations 20]

Both start from the same parameters in one process with one BLAS thread, and their iterations alternate. An iteration
is an E step, an M step and the log likelihood; ours checks the gain of each half step against the exact bound as well.
What is compared first is the log likelihood that both have reached after equally many iterations.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import argparse
import json
import time

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints
from sklearn.mixture import GaussianMixture

from jensen._conjugate.algebra import build_conjugate
from jensen._conjugate.coordinate.plated import ascent_for
from jensen._learning.em import parameter_values
from jensen._math.precision import working
from jensen._model.parameters import Opened, find_parameters


def data(n: int, d: int, k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping clusters, and the first means: rows drawn at random."""
    rng = np.random.default_rng(seed)
    centres = 3.0 * rng.normal(size=(k, d))
    roots = np.eye(d) + 0.4 * rng.normal(size=(k, d, d))
    labels = rng.integers(k, size=n)
    x = centres[labels] + np.einsum("nij,nj->ni", roots[labels], rng.normal(size=(n, d)))
    return x, x[rng.choice(n, k, replace=False)]


def mixture(x, means, covariances):
    """The model as a user writes it."""
    k = len(means)
    weights = numpyro.param("weights", jnp.ones(k) / k, constraint=constraints.simplex)
    mu = numpyro.param("mu", means)
    sigma = numpyro.param("sigma", covariances, constraint=constraints.positive_definite)
    with numpyro.plate("row", len(x)):
        c = numpyro.sample("c", dist.Categorical(weights))
        numpyro.sample("x", dist.MultivariateNormal(mu[c], covariance_matrix=sigma[c]), obs=x)


def peer(x: np.ndarray, means: np.ndarray, covariances: np.ndarray) -> GaussianMixture:
    """scikit-learn's, at the same start, no covariance regularised."""
    k = len(means)
    precisions = np.linalg.inv(covariances)
    start = {"weights_init": np.ones(k) / k, "means_init": means, "precisions_init": precisions}
    found = GaussianMixture(k, reg_covar=0.0, max_iter=1, **start)
    found._initialize_parameters(x, np.random.RandomState(0))
    return found


def log_likelihood(like: GaussianMixture, x: np.ndarray, values: dict[str, np.ndarray]) -> float:
    """Of our parameters, by scikit-learn's code."""
    other = GaussianMixture(like.n_components)
    other.weights_, other.means_, other.covariances_ = values["weights"], values["mu"], values["sigma"]
    other.precisions_cholesky_ = np.stack([np.linalg.cholesky(np.linalg.inv(s)) for s in values["sigma"]])
    return float(other.score_samples(x).sum())


def main() -> None:
    """Alternate, then print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=lambda s: int(float(s)), default=100_000)
    parser.add_argument("--d", type=int, default=8)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=20)
    arguments = parser.parse_args()
    x, means = data(arguments.n, arguments.d, arguments.k)
    covariances = np.broadcast_to(np.cov(x.T), (arguments.k, arguments.d, arguments.d)).copy()
    inputs = {"x": x, "means": means, "covariances": covariances}
    theirs = peer(x, means, covariances)
    begun = time.process_time()
    with working("double"):
        parameters = find_parameters(mixture, inputs)
        model = build_conjugate(Opened(mixture, parameters), inputs)
        initial = {p.name: p.initial for p in parameters}
        ascent = ascent_for(model, initial)
        state = ascent.given(np.random.default_rng(0), initial)
        build = time.process_time() - begun
        _, resp = theirs._e_step(x)
        theirs._m_step(x, resp)
        own, other, bounds = [], [], []
        for _ in range(arguments.iterations):
            clock = time.process_time()
            state = ascent.advance(state, 1)
            own.append(time.process_time() - clock)
            clock = time.process_time()
            _, resp = theirs._e_step(x)
            theirs._m_step(x, resp)
            other.append(time.process_time() - clock)
            bounds.append(state.elbo)
        values = parameter_values(model, state)
    ours, sk = log_likelihood(theirs, x, values), float(theirs.score_samples(x).sum())
    print(
        json.dumps(
            {
                "n": arguments.n,
                "d": arguments.d,
                "k": arguments.k,
                "log_likelihood": ours,
                "difference": ours - sk,
                "relative": abs(ours - sk) / abs(sk),
                "largest_fall": float(min(0.0, np.diff(bounds).min())),
                "build_and_compile_cpu": build,
                "jensen_cpu": float(np.median(own)),
                "sklearn_cpu": float(np.median(other)),
                "ratio_of_medians": float(np.median(other) / np.median(own)),
                "ratio_of_minima": float(np.min(other) / np.min(own)),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
