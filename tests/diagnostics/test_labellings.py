"""Every labelling is counted, whatever number of them q covers: against sums over all K^N assignments."""

import itertools

import numpy as np
import pytest
from scipy import optimize, special, stats

from jensen._modes.relabelling import Labelling, find_labellings
from jensen._verdict.evidence import evidence
from jensen._verdict.importance import weigh
from jensen._verdict.labellings import Counted, View, count_in_words, counted

Y = np.array([-3.1, -2.4, -2.9, 1.9, 2.2, 2.7, 1.4])
COUNTS = np.array([0.0, 1.0, 2.0, 9.0, 12.0, 8.0])


def normals(weights, means):
    """(log joint of the means, exact log p(x))."""
    weights, means = np.array(weights), np.array(means)

    def log_joint(u):
        each = np.log(weights) + stats.norm.logpdf(Y[None, :, None], u[:, None, :], 1.0)
        return stats.norm.logpdf(u, means, 5.0).sum(1) + special.logsumexp(each, axis=2).sum(1)

    labels = np.array(list(itertools.product(range(len(weights)), repeat=len(Y))))
    exact = np.log(weights)[labels].sum(1)
    for k, mean in enumerate(means):
        n, s, s2 = (labels == k).sum(1), (labels == k) @ (Y - mean), (labels == k) @ (Y - mean) ** 2
        exact += -0.5 * n * np.log(2 * np.pi) - 0.5 * np.log1p(25.0 * n) - 0.5 * (s2 - 25.0 * s**2 / (1 + 25.0 * n))
    return log_joint, special.logsumexp(exact), len(weights)


def poissons(states):
    """Rates Gamma(2, 0.5), on the log scale."""

    def log_joint(u):
        rate = np.exp(u)
        each = stats.poisson.logpmf(COUNTS[None, :, None], rate[:, None, :]) - np.log(states)
        return (stats.gamma.logpdf(rate, 2.0, scale=2.0) + u).sum(1) + special.logsumexp(each, axis=2).sum(1)

    labels = np.array(list(itertools.product(range(states), repeat=len(COUNTS))))
    exact = np.full(len(labels), -len(COUNTS) * np.log(states))
    for k in range(states):
        n, s = (labels == k).sum(1), (labels == k) @ COUNTS
        exact += 2.0 * np.log(0.5) + special.gammaln(2.0 + s) - (2.0 + s) * np.log(0.5 + n)
        exact -= (labels == k) @ special.gammaln(COUNTS + 1)
    return log_joint, special.logsumexp(exact), states


CASES = {
    "two": (normals([0.5, 0.5], [0, 0]), np.log(2)),
    "three for two groups": (normals([1 / 3] * 3, [0, 0, 0]), np.log(6)),
    "unequal weights": (normals([0.3, 0.7], [0, 0]), 0.0),
    "unequal priors": (normals([0.5, 0.5], [-3, 3]), 0.0),
    "two alike of three": (normals([0.2, 0.2, 0.6], [0, 0, 0]), np.log(2)),
    "counts": (poissons(2), np.log(2)),
}


class Gaussian:
    """Laplace's approximation at the highest of some climbs, half as wide again in its second half."""

    def __init__(self, log_joint, starts):
        ends = [optimize.minimize(lambda u: -log_joint(u[None])[0], start) for start in starts]
        best = min(ends, key=lambda end: end.fun)
        self.loc, self.covariance = best.x, 1.2 * best.hess_inv

    def draw(self, count, rng):
        halves = [rng.multivariate_normal(self.loc, c * self.covariance, count // 2) for c in (1.0, 2.25)]
        return np.concatenate(halves)

    def densities(self, points):
        parts = [stats.multivariate_normal(self.loc, c * self.covariance).logpdf(points) for c in (1.0, 2.25)]
        return parts[0], np.logaddexp(*parts) - np.log(2.0)


@pytest.mark.parametrize("name", CASES)
def test_evidence_counts_all_labellings(name):
    (log_joint, exact, states), log_count = CASES[name]
    rng = np.random.default_rng(5)
    q = Gaussian(log_joint, rng.uniform(-3, 3, size=(6, states)))
    points = q.draw(8192, rng)
    pool = weigh(points, log_joint(points), *q.densities(points))
    view = View({"mu": points}, lambda v: log_joint(v["mu"]), lambda v: q.densities(v["mu"]), (states,))
    found = counted(pool, view)
    low, high = evidence(pool, counted=found).interval
    assert low <= exact <= high
    assert high - low < 1.0 or high == np.inf
    assert exact - low < np.log(2)  # no labelling is left out
    assert found.log_count == pytest.approx(log_count)
    if name.startswith("unequal"):
        assert found.share_elsewhere == pytest.approx(-np.expm1(pool.log_evidence[0] - exact), abs=0.02)


def group_view(totals, factor=1.0):
    """Effects of groups with totals of their own, q the exact posterior."""
    totals = np.asarray(totals, float)
    q = stats.norm(totals / 2.0, np.sqrt(0.5))
    points = q.rvs((2048, len(totals)), random_state=np.random.default_rng(2))
    log_joint = lambda v: factor * q.logpdf(v["a"]).sum(1)  # noqa: E731
    both = lambda v: (q.logpdf(v["a"]).sum(1),) * 2  # noqa: E731
    view = View({"a": points}, log_joint, both)
    return weigh(points, log_joint(view.values), *both(view.values)), view


def test_groups_with_data_of_their_own_are_not_interchangeable():
    pool, view = group_view(np.random.default_rng(0).normal(size=50))
    assert counted(pool, view) == Counted(pool)


def test_groups_with_equal_data_are_counted_but_not_told():
    pool, view = group_view([0.3, 0.3, 1.0, 1.0, 1.0, -2.0])
    found = counted(pool, view)
    assert found.sentence == ""
    assert evidence(pool, counted=found).log_evidence == pytest.approx(0.0, abs=1e-9)


def test_nothing_is_claimed_where_the_log_joint_says_nothing():
    """At a point of a funnel the rounding of a huge log joint hides every change."""
    pool, view = group_view(np.arange(4.0), factor=1e37)
    assert counted(pool, view) == Counted(pool)


@pytest.mark.parametrize("y", [[0.05, 0.05], [0.07, 0.05]])
def test_draws_that_all_have_the_same_states_do_not_make_a_symmetry(y):
    """Gates that q holds shut: their sizes could be swapped in every draw of q, yet belong to data of their own."""
    rng, y = np.random.default_rng(3), np.array(y)
    values = {"u": rng.normal(1.0, 0.5, size=(4096, 2)), "v": np.zeros((4096, 2), int)}
    q = lambda v: np.where(v["v"] == 0, stats.norm.logpdf(v["u"], 1.0, 0.5), -np.inf).sum(1)  # noqa: E731

    def log_joint(v):
        prior = stats.norm.logpdf(v["u"], 1.0, 0.5) + stats.bernoulli.logpmf(v["v"], 0.4)
        return (prior + stats.norm.logpdf(y, v["u"] * v["v"], 0.05)).sum(1)

    view = View(values, log_joint, lambda v: (q(v),) * 2, coded={"v": 2})
    found = counted(weigh(values["u"], log_joint(values), *view.densities(values)), view)
    shut = (np.log(0.6) + stats.norm.logpdf(y, 0.0, 0.05)).sum()
    assert evidence(found.pool, counted=found).log_evidence == pytest.approx(shut, abs=1e-9)
    assert found.sentence == ""


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("states", [4, 8])
def test_states_that_are_alike_in_a_draw_are_counted_once(states, known):
    """One of K bits is up, which one is open: of the K! orders most leave a draw as it is."""
    rng = np.random.default_rng(1)
    bits = np.eye(states, dtype=int)[rng.integers(states, size=4096)]
    bits[rng.random(4096) < 0.1] = 0
    prior = lambda v: stats.bernoulli.logpmf(v["z"], 0.1).sum(1)  # noqa: E731
    log_joint = lambda v: prior(v) + stats.norm.logpdf(1.0, v["z"].sum(1), 0.2)  # noqa: E731
    q = lambda v: np.choose(np.minimum(v["z"].sum(1), 2), np.log([0.1, 0.9 / states, 1e-300]))  # noqa: E731
    view = View({"z": bits}, log_joint, (lambda v: (q(v),) * 2) if known else None, coded={"z": 2})
    found = counted(weigh(bits, log_joint(view.values), *(q(view.values),) * 2), view)
    count = np.arange(2)  # two or more bits are 12 sds away
    exact = special.logsumexp(
        np.log(special.comb(states, count))
        + count * np.log(0.1)
        + (states - count) * np.log(0.9)
        + stats.norm.logpdf(1.0, count, 0.2)
    )
    low, high = evidence(found.pool, counted=found).interval
    assert low <= exact + 1e-6 <= high + 2e-6
    assert high - low < 0.2
    assert found.log_count - found.log_covered < 0.1
    assert evidence(found.pool, counted=found).bound < exact + 0.05


def test_components_that_have_no_rows_are_renumbered_with_their_labels():
    """Where q gives two of four components no row, their means alone could be swapped: the labels go with them."""
    rng = np.random.default_rng(6)
    values = {"a": rng.normal(size=(16, 4)), "z": np.tile(np.arange(9) % 2, (16, 1))}

    def log_joint(v):
        means = np.take_along_axis(v["a"], v["z"], axis=1)
        return stats.norm.logpdf(v["a"]).sum(1) + stats.norm.logpdf(np.arange(9.0), means, 1.0).sum(1)

    (found,) = find_labellings(log_joint, values, coded={"z": 4})
    assert set(found.axes) == {("a", 0), ("z", None)}
    assert found.count == 24


def test_two_mixtures_have_labellings_of_their_own():
    rng = np.random.default_rng(4)
    values = {"a": rng.normal(size=(8, 2)), "b": rng.normal(size=(8, 2)), "z": rng.integers(2, size=(8, 9))}

    def log_joint(v):
        means = np.take_along_axis(v["a"], v["z"], axis=1)
        return stats.norm.logpdf(np.arange(9.0), means, 1.0).sum(1) + stats.norm.logpdf(v["b"].sum(1)) * v["b"].prod(1)

    found = find_labellings(log_joint, values, coded={"z": 2})
    assert {frozenset(one.axes) for one in found} == {frozenset({("a", 0), ("z", None)}), frozenset({("b", 0)})}


def test_counts_are_whole_numbers_of_any_size():
    many = Labelling((("a", 0),), (tuple(range(64)),), 64)
    assert many.count > 10**88
    assert count_in_words(np.log(6)) == "6"
    assert count_in_words(np.log(float(many.count))) == "10^89.1"
