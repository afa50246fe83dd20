"""Coverage of the interval of `evidence()` over models whose log p(x) is known, at pools of 128 to 8,192 draws.

    python benchmarks/evidence_coverage.py [--models 200] [--seed 0]

Six kinds in turn, each model with data of its own and a q that is somewhat off, without a fit in between:
a Gaussian posterior; a normal of unknown mean and precision; a binomial rate on the logit scale; a posterior over ten
states; made-up log-normal weights; a mixture of normals, two or three components for two or three groups, of which q
describes one labelling by Laplace's approximation, exact by summing over all K^N assignments. Prints the share of
intervals that hold, of lower ends above and upper ends below the truth, of finite upper ends, and the median width.
"""

import argparse
import itertools
import time

import numpy as np
from scipy import optimize, special, stats

from jensen._verdict.evidence import evidence
from jensen._verdict.importance import weigh
from jensen._verdict.labellings import View, counted

SIZES = (128, 256, 512, 1024, 2048, 4096, 8192)
FREEDOM = 4.0


class Laplace:
    """N(mode, curvature⁻¹) of a log joint over R^D, off by a random shift and stretch, and a Student-t around it."""

    def __init__(self, log_joint, starts, rng, off=0.2):
        ends = [optimize.minimize(lambda u: -log_joint(u[None])[0], start, method="BFGS") for start in starts]
        best = min(ends, key=lambda end: end.fun)
        self.factor = np.linalg.cholesky(best.hess_inv) * np.exp(off * rng.normal())
        self.loc = best.x + off * self.factor @ rng.normal(size=len(best.x))

    def draw(self, half, rng):
        """Half from q, half from the Student-t."""
        noise = rng.normal(size=(2 * half, len(self.loc)))
        noise[half:] *= np.sqrt(FREEDOM / rng.chisquare(FREEDOM, size=(half, 1)))
        return self.loc + noise @ self.factor.T

    def densities(self, points):
        """log q and log proposal."""
        dim = len(self.loc)
        squared = (np.linalg.solve(self.factor, (points - self.loc).T) ** 2).sum(axis=0)
        log_det = np.log(np.diag(self.factor)).sum()
        log_q = -0.5 * squared - 0.5 * dim * np.log(2 * np.pi) - log_det
        wide = special.gammaln(0.5 * (FREEDOM + dim)) - special.gammaln(0.5 * FREEDOM)
        wide = wide - 0.5 * dim * np.log(FREEDOM * np.pi) - log_det
        wide = wide - 0.5 * (FREEDOM + dim) * np.log1p(squared / FREEDOM)
        return log_q, np.logaddexp(log_q, wide) - np.log(2.0)


def _pools(log_joint, starts, rng, exact, view=None):
    q = Laplace(log_joint, starts, rng)

    def found(size):
        points = q.draw(size // 2, rng)
        pool = weigh(points, log_joint(points), *q.densities(points))
        return evidence(pool, counted=counted(pool, view(points, q)) if view else None)

    return found, exact


def gaussian(rng):
    """A regression with normal weights and errors."""
    rows, dim = 12, int(rng.integers(1, 5))
    x = rng.normal(size=(rows, dim))
    y = x @ rng.normal(size=dim) + rng.normal(size=rows)
    exact = stats.multivariate_normal(np.zeros(rows), x @ x.T + np.eye(rows)).logpdf(y)
    log_joint = lambda w: stats.norm.logpdf(w).sum(1) + stats.norm.logpdf(y - w @ x.T).sum(1)  # noqa: E731
    return _pools(log_joint, np.zeros((1, dim)), rng, exact)


def precision(rng):
    """Normal rows of unknown mean and precision, conjugate; q on the mean and the log precision."""
    y = 1.0 + rng.normal(size=int(rng.integers(4, 12)))
    n, mean = len(y), y.mean()
    a, b = 2.0 + 0.5 * n, 2.0 + 0.5 * ((y - mean) ** 2).sum() + 0.5 * n * mean**2 / (n + 1.0)
    exact = special.gammaln(a) - special.gammaln(2.0) + 2.0 * np.log(2.0) - a * np.log(b)
    exact += -0.5 * np.log(n + 1.0) - 0.5 * n * np.log(2 * np.pi)

    def log_joint(u):
        tau = np.exp(u[:, 1])
        prior = stats.gamma.logpdf(tau, 2.0, scale=0.5) + u[:, 1] + stats.norm.logpdf(u[:, 0], 0.0, tau**-0.5)
        return prior + stats.norm.logpdf(y[None], u[:, :1], tau[:, None] ** -0.5).sum(1)

    return _pools(log_joint, np.array([[mean, 0.0]]), rng, exact)


def rate(rng):
    """A binomial count with a beta prior; q on the logit."""
    n = int(rng.integers(1, 30))
    k, a, b = int(rng.integers(0, n + 1)), *rng.uniform(0.5, 3.0, size=2)
    exact = special.betaln(a + k, b + n - k) - special.betaln(a, b)

    def log_joint(u):
        return (a + k) * special.log_expit(u[:, 0]) + (b + n - k) * special.log_expit(-u[:, 0]) - special.betaln(a, b)

    return _pools(log_joint, np.zeros((1, 1)), rng, exact)


def states(rng):
    """Ten states, q between the posterior and something else."""
    log_joint = 3.0 * rng.normal(size=10)
    log_q = special.log_softmax(0.7 * log_joint + 0.3 * np.log(rng.dirichlet(np.full(10, 3.0))))
    log_wide = special.log_softmax(0.5 * log_q)

    def found(size):
        draws = [rng.choice(10, size // 2, p=np.exp(law)) for law in (log_q, log_wide)]
        chosen = np.concatenate(draws)
        proposal = np.logaddexp(log_q, log_wide) - np.log(2.0)
        return evidence(weigh(chosen[:, None] * 1.0, log_joint[chosen], log_q[chosen], proposal[chosen]))

    return found, special.logsumexp(log_joint)


def made_up(rng):
    """Log-normal weights."""
    variance = rng.uniform(0.1, 2.5)

    def found(size):
        logs, zero = rng.normal(-0.5 * variance, np.sqrt(variance), size), np.zeros(size)
        return evidence(weigh(logs[:, None], logs, zero, zero))

    return found, 0.0


def mixture(rng):
    """Normals of equal weights, their means with a normal prior; the labels are summed out."""
    components, groups = int(rng.integers(2, 4)), int(rng.integers(2, 4))
    weights = np.full(components, 1.0 / components)
    y = rng.normal(rng.uniform(-4, 4, size=groups)[rng.integers(groups, size=7)], 1.0)
    labels = np.array(list(itertools.product(range(components), repeat=len(y))))
    exact = np.log(weights)[labels].sum(1)
    for k in range(components):
        n, s, s2 = (labels == k).sum(1), (labels == k) @ y, (labels == k) @ y**2
        exact = exact - 0.5 * n * np.log(2 * np.pi) - 0.5 * np.log1p(9.0 * n) - 0.5 * (s2 - s**2 * 9.0 / (1 + 9.0 * n))

    def log_joint(u):
        each = np.log(weights) + stats.norm.logpdf(y[None, :, None], u[:, None, :], 1.0)
        return stats.norm.logpdf(u, 0.0, 3.0).sum(1) + special.logsumexp(each, axis=2).sum(1)

    def view(points, q):
        return View({"mu": points}, lambda v: log_joint(v["mu"]), lambda v: q.densities(v["mu"]))

    return _pools(log_joint, rng.uniform(-4, 4, size=(10, components)), rng, special.logsumexp(exact), view)


KINDS = (gaussian, precision, rate, states, made_up, mixture)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    begun, results = time.process_time(), {}
    for number in range(arguments.models):
        kind = KINDS[number % len(KINDS)]
        found, exact = kind(np.random.default_rng([arguments.seed, number]))
        for size in SIZES:
            results.setdefault((kind.__name__, size), []).append(np.array(found(size).interval) - exact)
    print(f"{'kind':10}{'draws':>6}{'holds':>8}{'low > truth':>13}{'high < truth':>14}{'finite':>8}{'width':>8}")
    for name, size in [*results, *(("all", size) for size in SIZES), ("all", 0)]:
        ends = np.array(
            [one for (own, many), some in results.items() for one in some if name in (own, "all") and size in (many, 0)]
        )
        low, high = (ends[:, 0] > 0).mean(), (ends[:, 1] < 0).mean()
        finite = np.isfinite(ends[:, 1])
        width = np.median((ends[:, 1] - ends[:, 0])[finite]) if finite.any() else np.nan
        print(
            f"{name:10}{size or 'any':>6}{1 - low - high:8.3f}{low:13.3f}{high:14.3f}{finite.mean():8.2f}{width:8.3f}"
        )
    print(f"{time.process_time() - begun:.0f} CPU seconds")


if __name__ == "__main__":
    main()
