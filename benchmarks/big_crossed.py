"""Models for `big.py` whose latents cross, or whose θ is not small: as people write them in NumPyro."""

import os

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

INSTEVAL = os.environ.get("INSTEVAL", "insteval.npz")
"""Table InstEval of R's lme4 as arrays `rating`, `student`, `lecturer`, `dept`, `service`."""


def items(size):
    """Binary answers of persons to 40 items, each with a discrimination and a difficulty (2PL)."""
    rng = np.random.default_rng(1)
    ability, a, b = rng.normal(size=size), np.exp(0.3 * rng.normal(size=40)), rng.normal(size=40)
    y = (rng.random((size, 40)) < 1 / (1 + np.exp(-a * (ability[:, None] - b)))).astype(int)

    def model(y=None):
        with numpyro.plate("item", 40, dim=-1):
            a = numpyro.sample("a", dist.LogNormal(0, 0.5))
            b = numpyro.sample("b", dist.Normal(0, 2))
        with numpyro.plate("person", size, dim=-2):
            ability = numpyro.sample("ability", dist.Normal(0, 1))
            with numpyro.plate("item", 40, dim=-1):
                numpyro.sample("y", dist.Bernoulli(logits=a * (ability - b)), obs=y)

    return model, {"y": y}, ["a", "b"]


def factors(size):
    """Gaussian rows of 20 columns: five factors, their scores latent, and loadings that rotations leave as they are."""
    rng = np.random.default_rng(1)
    y = rng.normal(size=(size, 5)) @ rng.normal(size=(20, 5)).T + 0.5 * rng.normal(size=(size, 20))

    def model(y=None):
        noise = numpyro.sample("noise", dist.HalfNormal(1))
        with numpyro.plate("factor", 5, dim=-1):
            with numpyro.plate("row", size, dim=-2):
                scores = numpyro.sample("scores", dist.Normal(0, 1))
            with numpyro.plate("column", 20, dim=-2):
                loadings = numpyro.sample("loadings", dist.Normal(0, 1))
        numpyro.deterministic("shared", jnp.sum(loadings**2, axis=1))
        with numpyro.plate("row", size, dim=-2), numpyro.plate("column", 20, dim=-1):
            numpyro.sample("y", dist.Normal(scores @ loadings.T, noise), obs=y)

    return model, {"y": y}, ["noise", "shared"]


def _ratings(size):
    """Ratings of so many lecturers, and by students with three of them or more; of all for 0."""
    table = dict(np.load(INSTEVAL))
    columns = [table[name] for name in ("student", "lecturer", "dept", "rating", "service")]
    if size:
        chosen = np.random.default_rng(1).choice(np.unique(columns[1]), size, replace=False)
        kept = np.isin(columns[1], chosen)
        who, count = np.unique(columns[0][kept], return_counts=True)
        kept &= np.isin(columns[0], who[count >= 3])
        columns = [column[kept] for column in columns]
    student, lecturer, dept = (np.unique(column, return_inverse=True)[1] for column in columns[:3])
    service = columns[4].astype(float)
    return {"student": student, "lecturer": lecturer, "dept": dept, "service": service - service.min()}, columns[3]


def _crossed(size, binary):
    data, rating = _ratings(size)
    sizes = [int(data[name].max()) + 1 for name in ("student", "lecturer", "dept")]

    def model(student, lecturer, dept, service, y=None):
        b0, b1 = numpyro.sample("b0", dist.Normal(0, 5)), numpyro.sample("b1", dist.Normal(0, 2))
        scales = [numpyro.sample(name, dist.HalfNormal(1)) for name in ("s_student", "s_lecturer", "s_dept")]
        effects = []
        for name, count, scale in zip(("student", "lecturer", "dept"), sizes, scales, strict=True):
            with numpyro.plate(f"{name}s", count):
                effects.append(numpyro.sample(f"u_{name}", dist.Normal(0, scale)))
        mean = b0 + b1 * service + effects[0][student] + effects[1][lecturer] + effects[2][dept]
        noise = None if binary else numpyro.sample("noise", dist.HalfNormal(2))
        with numpyro.plate("rating", len(student)):
            numpyro.sample("y", dist.Bernoulli(logits=mean) if binary else dist.Normal(mean, noise), obs=y)

    names = ["b0", "b1", "s_student", "s_lecturer", "s_dept"] + ([] if binary else ["noise"])
    return model, {**data, "y": (rating >= 4).astype(int) if binary else rating.astype(float)}, names


def insteval(size):
    """Ratings of lecturers by students, Gaussian: effects of students, lecturers and departments cross."""
    return _crossed(size, False)


def insteval_binary(size):
    """The same, whether a rating is four or five."""
    return _crossed(size, True)


def correlated(size):
    """Logistic rows, twenty a group, with an intercept and a slope for each group that correlate."""
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(size), 20)
    x = rng.normal(size=20 * size)
    own = rng.normal(size=(size, 2)) @ np.linalg.cholesky([[0.36, 0.09], [0.09, 0.09]]).T
    p = 1 / (1 + np.exp(-(0.3 + 0.8 * x + own[group, 0] + own[group, 1] * x)))
    y = (rng.random(20 * size) < p).astype(int)

    def model(x, group, y=None):
        b = numpyro.sample("b", dist.Normal(0, 3).expand([2]).to_event(1))
        s = numpyro.sample("s", dist.HalfNormal(1).expand([2]).to_event(1))
        root = numpyro.sample("root", dist.LKJCholesky(2, 2.0))
        numpyro.deterministic("rho", root[1, 0])
        with numpyro.plate("groups", size):
            own = numpyro.sample("own", dist.MultivariateNormal(b, scale_tril=s[:, None] * root))
        with numpyro.plate("rows", len(x)):
            numpyro.sample("y", dist.Bernoulli(logits=own[group, 0] + own[group, 1] * x), obs=y)

    return model, {"x": x, "group": group, "y": y}, ["b", "s", "rho"]


def intercepts(size):
    """Logistic rows, a hundred a group, with an intercept for each group."""
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(size), 100)
    x = rng.normal(size=(100 * size, 3))
    own = 0.3 + 0.8 * rng.normal(size=size)
    p = 1 / (1 + np.exp(-(own[group] + x @ np.array([0.5, -0.5, 1.0]))))
    y = (rng.random(100 * size) < p).astype(int)

    def model(x, group, y=None):
        mean, sd = numpyro.sample("mean", dist.Normal(0, 3)), numpyro.sample("sd", dist.HalfNormal(1))
        beta = numpyro.sample("beta", dist.Normal(0, 2).expand([3]).to_event(1))
        with numpyro.plate("groups", size):
            own = numpyro.sample("own", dist.Normal(mean, sd))
        with numpyro.plate("rows", len(x)):
            numpyro.sample("y", dist.Bernoulli(logits=own[group] + x @ beta), obs=y)

    return model, {"x": x, "group": group, "y": y}, ["mean", "sd", "beta"]


MODELS = {
    "items": (items, (100, 1000, 10_000)),
    "factors": (factors, (100, 1000, 4000)),
    "insteval": (insteval, (100, 0)),
    "insteval_binary": (insteval_binary, (100, 0)),
    "correlated": (correlated, (1000, 10_000)),
    "intercepts": (intercepts, (1000,)),
}
"""Name -> model by size, sizes; 0 stands for all lecturers."""
