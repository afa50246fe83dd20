"""Programs with many latents, and what is known about them."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from scipy.special import gammaln, logsumexp
from scipy.stats import norm

RNG = np.random.default_rng(3)
GROUPS = 24
COUNTS = RNG.poisson(np.exp(0.5 + 0.6 * RNG.normal(size=GROUPS)))


def counts(y):
    """One effect a row."""
    b, s = numpyro.sample("b", dist.Normal(0, 2)), numpyro.sample("s", dist.HalfNormal(1))
    with numpyro.plate("row", len(y)):
        u = numpyro.sample("u", dist.Normal(0, s))
        rate = numpyro.deterministic("rate", jnp.exp(b + u))
        numpyro.sample("y", dist.Poisson(rate), obs=y)


def counts_log_joint(b, s, y=COUNTS, nodes=4001):
    """log p(y, b, s) of `counts`, every effect integrated out on a fine grid; in nats."""
    v = np.linspace(-9.0, 9.0, nodes)
    eta = b + s * v
    rows = y[:, None] * eta - np.exp(eta) - gammaln(y[:, None] + 1) - 0.5 * v**2 - 0.5 * np.log(2 * np.pi)
    prior = -(b**2) / 8 - np.log(2 * np.sqrt(2 * np.pi)) - s**2 / 2 + np.log(2 / np.sqrt(2 * np.pi))
    return float(logsumexp(rows, axis=1).sum() + len(y) * np.log(v[1] - v[0]) + prior)


def bent(y):
    """Gaussian rows and effects; beyond 4 their prior falls faster."""
    s = numpyro.sample("s", dist.HalfNormal(1))
    with numpyro.plate("row", len(y)):
        z = numpyro.sample("z", dist.Normal(0, 10.0 * s))
        numpyro.factor("wall", -2.0 * jnp.maximum(z - 4.0, 0.0) ** 2)
        numpyro.sample("y", dist.Normal(z, 0.5), obs=y)


def assert_right(fit, moments, evidence):
    """Means, sds and the evidence of a fit, against what is known exactly, and a verdict that stands by them."""
    assert fit.check().verdict in ("trusted", "usable")
    summary = fit.summary()
    for name, (mean, sd) in moments.items():
        assert abs(summary.loc[name, "mean"] - mean) < 0.12 * sd
        assert abs(summary.loc[name, "sd"] / sd - 1.0) < 0.1
    low, high = fit.evidence().interval
    assert low - 0.05 < evidence < high + 0.05


def slopes(x, g, y):
    """Intercepts and slopes of groups, with Gaussian rows: given θ everything is exact."""
    s, t = numpyro.sample("s", dist.HalfNormal(1)), numpyro.sample("t", dist.HalfNormal(1))
    a = numpyro.sample("a", dist.Normal(0, s).expand([GROUPS]).to_event(1))
    with numpyro.plate("group", GROUPS):
        c = numpyro.sample("c", dist.Normal(1, t))
    numpyro.sample("y", dist.Normal(a[g] + c[g] * x, 0.5).to_event(1), obs=y)


def slopes_data():
    g = np.repeat(np.arange(GROUPS), 3)
    x = RNG.normal(size=len(g))
    y = 0.7 * RNG.normal(size=GROUPS)[g] + x + 0.5 * RNG.normal(size=len(g))
    return {"x": x, "g": g, "y": y}


def correlated(x, g, y):
    """The same with a matrix of effects, (2, groups)."""
    s = numpyro.sample("s", dist.HalfNormal(1).expand([2]).to_event(1))
    with numpyro.plate("group", GROUPS):
        z = numpyro.sample("z", dist.Normal(0, 1).expand([2]).to_event(1))
    e = z * s
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.StudentT(4.0, e[g, 0] + e[g, 1] * x, 0.5), obs=y)


def crossed(g, y):
    """Two effects that share rows: the larger set can be integrated out, not both."""
    s = numpyro.sample("s", dist.HalfNormal(1))
    with numpyro.plate("group", GROUPS):
        a = numpyro.sample("a", dist.Normal(0, s))
    with numpyro.plate("other", 9):
        b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Normal(a[g] + b[np.arange(len(y)) % 9], 1), obs=y)


def chained(y):
    """A walk: every step sees the one before."""
    s = numpyro.sample("s", dist.HalfNormal(1))
    h = numpyro.sample("h", dist.GaussianRandomWalk(s, len(y)))
    numpyro.sample("y", dist.Normal(h, 1).to_event(1), obs=y)


def summed(y):
    """One row sees all effects at once."""
    s = numpyro.sample("s", dist.HalfNormal(1))
    with numpyro.plate("group", GROUPS):
        a = numpyro.sample("a", dist.Normal(0, s))
        numpyro.sample("y", dist.Normal(a, 1), obs=y)
    numpyro.factor("sum", -0.5 * (a.sum() / 0.1) ** 2)


PERSONS, ITEMS = 30, 7


def rated(person, item, y):
    """Effects of persons and items on every rating: given θ all of them are Gaussian together."""
    s, t = numpyro.sample("s", dist.HalfNormal(1)), numpyro.sample("t", dist.HalfNormal(1))
    with numpyro.plate("persons", PERSONS):
        a = numpyro.sample("a", dist.Normal(0, s))
    with numpyro.plate("items", ITEMS):
        b = numpyro.sample("b", dist.Normal(0, t))
    with numpyro.plate("ratings", len(y)):
        numpyro.sample("y", dist.Normal(0.3 + a[person] + b[item], 0.7), obs=y)


def rated_data():
    person, item = RNG.integers(0, PERSONS, 120), RNG.integers(0, ITEMS, 120)
    y = 0.3 + 0.6 * RNG.normal(size=PERSONS)[person] + RNG.normal(size=ITEMS)[item] + 0.7 * RNG.normal(size=120)
    return {"person": person, "item": item, "y": y}


SIDE = 7


def edges(side=SIDE):
    """(2, E) neighbours on a square map."""
    places = np.arange(side * side).reshape(side, side)
    first = np.r_[places[:, :-1].ravel(), places[:-1].ravel()]
    return np.stack([first, np.r_[places[:, 1:].ravel(), places[1:].ravel()]])


def smooth(ends, y, total=True):
    """An intrinsic map with a soft sum to zero, and effects of the places beside it."""
    s, t = numpyro.sample("s", dist.HalfNormal(1)), numpyro.sample("t", dist.HalfNormal(1))
    with numpyro.plate("place", len(y)):
        phi = numpyro.sample("phi", dist.ImproperUniform(dist.constraints.real, (), ()))
        v = numpyro.sample("v", dist.Normal(0, 1))
    numpyro.factor("smooth", -0.5 * jnp.sum((phi[ends[0]] - phi[ends[1]]) ** 2))
    if total:
        numpyro.factor("sum", dist.Normal(0, 0.001 * len(y)).log_prob(phi.sum()))
    with numpyro.plate("seen", len(y)):
        numpyro.sample("y", dist.Normal(1.0 + s * phi + t * v, 0.5), obs=y)


STEPS = 40
WALK = RNG.poisson(np.exp(1.0 + np.cumsum(0.3 * RNG.normal(size=STEPS))))


def level(y):
    """Counts whose log rate walks at random."""
    s = numpyro.sample("s", dist.HalfNormal(0.5))
    h = numpyro.sample("h", dist.GaussianRandomWalk(s, STEPS))
    numpyro.deterministic("rate", jnp.exp(1.0 + h))
    numpyro.sample("y", dist.Poisson(jnp.exp(1.0 + h)).to_event(1), obs=y)


def noisy(y):
    """The same walk, centred, seen with Gaussian noise."""
    s, t = numpyro.sample("s", dist.HalfNormal(0.5)), numpyro.sample("t", dist.HalfNormal(1.0))
    with numpyro.plate("step", STEPS):
        z = numpyro.sample("z", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(s * jnp.cumsum(z), t), obs=y)


def mapped(y, ends):
    """A smooth map, with each place's neighbours."""
    s = numpyro.sample("s", dist.HalfNormal(1))
    with numpyro.plate("place", len(y)):
        phi = numpyro.sample("phi", dist.Normal(0, 3))
    numpyro.factor("smooth", -0.5 * jnp.sum((phi[ends[0]] - phi[ends[1]]) ** 2))
    with numpyro.plate("seen", len(y)):
        numpyro.sample("y", dist.Poisson(jnp.exp(s * phi)), obs=y)


def volatile(y):
    """Returns whose log variance walks at random: concave, but steep enough for Newton's method to overshoot."""
    s = numpyro.sample("s", dist.HalfNormal(0.5))
    h = numpyro.sample("h", dist.GaussianRandomWalk(s, STEPS))
    numpyro.sample("y", dist.Normal(0, jnp.exp(h / 2)).to_event(1), obs=y)


def bimodal(y):
    """A walk of which only the size is seen."""
    s = numpyro.sample("s", dist.HalfNormal(0.5))
    h = numpyro.sample("h", dist.GaussianRandomWalk(s, STEPS))
    numpyro.sample("y", dist.Normal(h**2, 0.1).to_event(1), obs=y)


def level_filter(log_s, y=WALK, grid=601):
    """log p(y | s) of `level` and (means, sds) of its states, by filtering on a fine grid; in nats."""
    x = np.linspace(-5.0, 5.0, grid)
    step = norm.pdf((x[:, None] - x) / np.exp(log_s)) / np.exp(log_s)
    step /= np.maximum(step.sum(axis=0), 1e-300)
    rows = np.exp(y[:, None] * (1.0 + x) - np.exp(1.0 + x) - gammaln(y[:, None] + 1))
    start = norm.pdf(x / np.exp(log_s))
    ahead, logs = [start / start.sum() * rows[0]], []
    for t in range(len(y)):
        logs.append(np.log(ahead[-1].sum()))
        ahead[-1] = ahead[-1] / ahead[-1].sum()
        if t + 1 < len(y):
            ahead.append(rows[t + 1] * (step @ ahead[-1]))
    back, moments = np.ones(grid), []
    for t in reversed(range(len(y))):
        share = ahead[t] * back / (ahead[t] * back).sum()
        mean = share @ x
        moments.append((mean, np.sqrt(share @ (x - mean) ** 2)))
        back = step.T @ (rows[t] * back)
        back /= back.max()
    return float(sum(logs)), np.array(moments[::-1])


def factor_rows(y=None, rows=12, columns=6, factors=3):
    """Gaussian rows, three factors: scores are Gaussian given loadings, and rotations leave both as they are."""
    noise = numpyro.sample("noise", dist.HalfNormal(1))
    with numpyro.plate("factor", factors, dim=-1):
        with numpyro.plate("row", rows, dim=-2):
            scores = numpyro.sample("scores", dist.Normal(0, 1))
        with numpyro.plate("column", columns, dim=-2):
            loadings = numpyro.sample("loadings", dist.Normal(0, 1))
    with numpyro.plate("row", rows, dim=-2), numpyro.plate("column", columns, dim=-1):
        numpyro.sample("y", dist.Normal(scores @ loadings.T, noise), obs=y)


def answers(y=None, persons=50, items=24):
    """Binary answers: an ability of each person, a discrimination and a difficulty of each item."""
    with numpyro.plate("item", items, dim=-1):
        a, b = numpyro.sample("a", dist.LogNormal(0, 0.5)), numpyro.sample("b", dist.Normal(0, 2))
    with numpyro.plate("person", persons, dim=-2):
        ability = numpyro.sample("ability", dist.Normal(0, 1))
        with numpyro.plate("item", items, dim=-1):
            numpyro.sample("y", dist.Bernoulli(logits=a * (ability - b)), obs=y)


def graded(y=None, persons=12, items=5):
    """Binary answers: an ability of each person, and difficulties of items that have a mean and a spread."""
    m, s = numpyro.sample("m", dist.Normal(0, 1)), numpyro.sample("s", dist.HalfNormal(1))
    with numpyro.plate("item", items, dim=-1):
        b = numpyro.sample("b", dist.Normal(m, s))
    with numpyro.plate("person", persons, dim=-2):
        ability = numpyro.sample("ability", dist.Normal(0, 1))
        with numpyro.plate("item", items, dim=-1):
            numpyro.sample("y", dist.Bernoulli(logits=ability - b), obs=y)


def empty(y):
    """Counts that are zero, and effects so wide that their log density is a cliff: far up, an exponential."""
    s = numpyro.sample("s", dist.HalfNormal(1))
    with numpyro.plate("row", len(y)):
        z = numpyro.sample("z", dist.Normal(0, 20.0 * s))
        numpyro.sample("y", dist.Poisson(jnp.exp(z)), obs=y)
