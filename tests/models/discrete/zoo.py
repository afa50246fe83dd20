"""Programs with discrete latents, small enough that every joint state can be listed, and that listing."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.contrib.control_flow import scan
from numpyro.infer.util import log_density

RNG = np.random.default_rng(20240611)
Y6, X62, K5 = RNG.normal(size=6), RNG.normal(size=(6, 2)), np.array([0, 3, 0, 1, 4])


def mixture(y):
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.ones(3)))
    mu = numpyro.sample("mu", dist.Normal(0, 2).expand([3]).to_event(1))
    with numpyro.plate("row", len(y)):
        z = numpyro.sample("z", dist.Categorical(weights))
        numpyro.sample("y", dist.Normal(mu[z], 0.7), obs=y)


def gated_regressions(x, y):
    gate = numpyro.sample("gate", dist.Normal(0, 1).expand([2, 3]).to_event(2))
    beta = numpyro.sample("beta", dist.Normal(0, 1).expand([3, 2]).to_event(2))
    with numpyro.plate("row", len(y)):
        z = numpyro.sample("z", dist.Categorical(logits=x @ gate), infer={"enumerate": "parallel"})
        numpyro.sample("y", dist.Normal(jnp.einsum("nd,nd->n", x, beta[z]), 0.5), obs=y)


def multivariate_mixture(x):
    mu = numpyro.sample("mu", dist.Normal(0, 2).expand([3, 2]).to_event(2))
    root = numpyro.sample("root", dist.LKJCholesky(2, 2.0))
    with numpyro.plate("row", len(x)):
        z = numpyro.sample("z", dist.DiscreteUniform(0, 2))
        numpyro.sample("x", dist.MultivariateNormal(mu[z], scale_tril=root), obs=x)


def zero_inflated(k):
    rate = numpyro.sample("rate", dist.Gamma(2.0, 1.0))
    absent = numpyro.sample("absent", dist.Beta(1.0, 1.0))
    with numpyro.plate("row", len(k)):
        zero = numpyro.sample("zero", dist.Bernoulli(absent))
        numpyro.sample("k", dist.Poisson(jnp.where(zero == 1, 1e-6, rate)), obs=k)


def change_point(k):
    rate = numpyro.sample("rate", dist.Gamma(2.0, 1.0).expand([2]).to_event(1))
    when = numpyro.sample("when", dist.DiscreteUniform(0, len(k) - 1))
    numpyro.deterministic("half", when / 2)
    with numpyro.plate("year", len(k)):
        numpyro.sample("k", dist.Poisson(jnp.where(jnp.arange(len(k)) < when, rate[0], rate[1])), obs=k)


def capture_recapture(seen):
    survival = numpyro.sample("survival", dist.Beta(2.0, 1.0))
    capture = numpyro.sample("capture", dist.Beta(1.0, 1.0))
    with numpyro.plate("animal", seen.shape[1]):
        alive = jnp.ones(seen.shape[1], int)
        for t in range(seen.shape[0]):
            alive = numpyro.sample(f"alive_{t}", dist.Bernoulli(survival * alive))
            numpyro.sample(f"seen_{t}", dist.Bernoulli(capture * alive), obs=seen[t])


def abundance(total, k):
    rate = numpyro.sample("rate", dist.Beta(1.0, 1.0))
    detect = numpyro.sample("detect", dist.Beta(1.0, 1.0))
    with numpyro.plate("patch", len(k)):
        n = numpyro.sample("n", dist.Binomial(total, rate))
        numpyro.sample("k", dist.Binomial(n, detect), obs=k)


def noisy_or(symptom):
    prior = numpyro.sample("prior", dist.Beta(1.0, 3.0).expand([4]).to_event(1))
    weight = numpyro.sample("weight", dist.Gamma(1.0, 1.0).expand([4, 5]).to_event(2))
    with numpyro.plate("disease", 4):
        ill = numpyro.sample("ill", dist.Bernoulli(prior))
    with numpyro.plate("finding", 5):
        numpyro.sample("symptom", dist.Bernoulli(1 - jnp.exp(-0.1 - ill @ weight)), obs=symptom)


def spike_and_slab(x, y):
    beta = numpyro.sample("beta", dist.Normal(0, 1).expand([2]).to_event(1))
    kept = numpyro.sample("kept", dist.Bernoulli(0.4).expand([2]).to_event(1))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Normal(x @ (kept * beta), 1.0), obs=y)


def two_levels(y):
    mu = numpyro.sample("mu", dist.Normal(0, 2).expand([2, 2]).to_event(2))
    kind = jnp.array([[0.2, 0.8], [0.7, 0.3]])
    with numpyro.plate("group", y.shape[0], dim=-2):
        c = numpyro.sample("c", dist.Bernoulli(0.4))
        with numpyro.plate("row", y.shape[1], dim=-1):
            z = numpyro.sample("z", dist.Categorical(kind[c]))
            numpyro.sample("y", dist.Normal(mu[c, z], 1.0), obs=y)


def global_and_local(y):
    a = numpyro.sample("a", dist.Normal(0, 1))
    model = numpyro.sample("model", dist.Bernoulli(0.3))
    numpyro.deterministic("effect", a * model)
    weights = jnp.array([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]])[model]
    with numpyro.plate("row", len(y)):
        z = numpyro.sample("z", dist.Categorical(weights))
        numpyro.sample("y", dist.Normal(a * z + model, 1.0), obs=y)


def chosen_by_switch(y):
    a = numpyro.sample("a", dist.HalfNormal(1.0))
    form = numpyro.sample("form", dist.Categorical(jnp.array([0.2, 0.5, 0.3])))
    forms = [lambda t: a * t, lambda t: jnp.sin(a * t), lambda t: jnp.log1p(a * t)]
    mean = jax.lax.switch(form, forms, jnp.arange(4.0))
    numpyro.sample("y", dist.Normal(mean, 1.0).to_event(1), obs=y)


def loop_chain(y):
    stay = numpyro.sample("stay", dist.Beta(2.0, 1.0))
    z = 0
    for t in range(len(y)):
        z = numpyro.sample(f"z_{t}", dist.Bernoulli(jnp.where(z == 1, stay, 1 - stay)))
        numpyro.sample(f"y_{t}", dist.Normal(2.0 * z, 1.0), obs=y[t])


def hidden_markov(y):
    move = numpyro.sample("move", dist.Dirichlet(jnp.ones((3, 3))).to_event(1))
    mu = numpyro.sample("mu", dist.Normal(0, 2).expand([3]).to_event(1))

    def step(z, value):
        z = numpyro.sample("z", dist.Categorical(move[z]))
        numpyro.sample("y", dist.Normal(mu[z], 1.0), obs=value)
        return z, None

    scan(step, 0, y)


def hidden_markov_started(y):
    move = numpyro.sample("move", dist.Dirichlet(jnp.ones((2, 2))).to_event(1))
    first = numpyro.sample("first", dist.Categorical(jnp.array([0.9, 0.1])))

    def step(z, value):
        z = numpyro.sample("z", dist.Categorical(move[z]))
        numpyro.sample("y", dist.Normal(3.0 * z, 1.0), obs=value)
        return z, None

    scan(step, first, y)


def hidden_markov_many(y, length):
    move = numpyro.sample("move", dist.Dirichlet(jnp.ones((2, 2))).to_event(1))

    def step(carry, value):
        z, t = carry
        with numpyro.plate("series", y.shape[1]), handlers.mask(mask=t < length):
            z = numpyro.sample("z", dist.Categorical(move[z]))
            numpyro.sample("y", dist.Normal(2.0 * z, 1.0), obs=value)
        return (z, t + 1), None

    scan(step, (jnp.zeros(y.shape[1], int), 0), y)


def factorial_markov(y):
    stay = numpyro.sample("stay", dist.Beta(2.0, 1.0).expand([2]).to_event(1))

    def step(carry, value):
        a, b = carry
        a = numpyro.sample("a", dist.Bernoulli(jnp.where(a == 1, stay[0], 1 - stay[0])))
        b = numpyro.sample("b", dist.Bernoulli(jnp.where(b == 1, stay[1], 0.5)))
        spread = numpyro.sample("spread", dist.Bernoulli(0.2))  # local to its step
        numpyro.sample("y", dist.Normal(a + 2.0 * b, 1.0 + 3.0 * spread), obs=value)
        return (a, b), None

    scan(step, (0, 1), y)


def masked_rows(y, known):
    mu = numpyro.sample("mu", dist.Normal(0, 2).expand([2]).to_event(1))
    with numpyro.plate("row", len(y)), handlers.mask(mask=known):
        z = numpyro.sample("z", dist.Bernoulli(0.3))
        numpyro.sample("y", dist.Normal(mu[z], 1.0), obs=y)


def powered_likelihood(y):
    mu = numpyro.sample("mu", dist.Normal(0, 2).expand([2]).to_event(1))
    with numpyro.plate("row", len(y)):
        z = numpyro.sample("z", dist.Bernoulli(0.3))
        with handlers.scale(scale=2.5):
            numpyro.sample("y", dist.Normal(mu[z], 1.0), obs=y)


def vector_without_plate(y):
    mu = numpyro.sample("mu", dist.Normal(0, 2).expand([2]).to_event(1))
    z = numpyro.sample("z", dist.Categorical(jnp.array([[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]])))
    numpyro.sample("y", dist.Normal(mu[z], 1.0), obs=y[:3])
    numpyro.factor("repel", -1.0 * (z[0] == z[2]))


SEEN = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 0]])

MODELS = {
    "mixture": (mixture, {"y": Y6}),
    "gated regressions": (gated_regressions, {"x": X62[:4], "y": Y6[:4]}),
    "multivariate mixture": (multivariate_mixture, {"x": X62}),
    "zero inflated": (zero_inflated, {"k": K5}),
    "change point": (change_point, {"k": np.array([1, 0, 2, 7, 5, 6])}),
    "capture-recapture": (capture_recapture, {"seen": SEEN}),
    "abundance": (abundance, {"total": np.array([4, 2, 3]), "k": np.array([2, 0, 3])}),
    "noisy or": (noisy_or, {"symptom": np.array([1, 0, 1, 1, 0])}),
    "spike and slab": (spike_and_slab, {"x": X62, "y": Y6}),
    "two levels": (two_levels, {"y": Y6.reshape(2, 3)}),
    "global and local": (global_and_local, {"y": Y6[:4]}),
    "switch": (chosen_by_switch, {"y": Y6[:4]}),
    "loop chain": (loop_chain, {"y": Y6}),
    "hidden Markov": (hidden_markov, {"y": Y6}),
    "hidden Markov, started": (hidden_markov_started, {"y": Y6}),
    "hidden Markov, many": (hidden_markov_many, {"y": RNG.normal(size=(4, 2)), "length": np.array([4, 2])}),
    "factorial Markov": (factorial_markov, {"y": Y6[:3]}),
    "masked rows": (masked_rows, {"y": Y6, "known": np.array([1, 1, 0, 1, 0, 1], bool)}),
    "powered likelihood": (powered_likelihood, {"y": Y6}),
    "vector without plate": (vector_without_plate, {"y": Y6}),
}


def assignments(target):
    """Every joint state: site -> (states, *shape)."""
    sites = target.structure.summed
    each = [list(itertools.product(s.values, repeat=int(np.prod(s.shape, dtype=int)))) for s in sites]
    states = list(itertools.product(*each))
    return {s.name: np.array([np.reshape(state[i], s.shape) for state in states]) for i, s in enumerate(sites)}


def joint_weights(target, states, point):
    """NumPyro's own log joint at every joint state, plus the Jacobian of the continuous latents."""
    model = target.model
    latent, log_det = model.bijection.forward(point)
    kwargs = {k: jnp.asarray(v) if isinstance(v, np.ndarray) else v for k, v in model.kwargs.items()}

    def one(discrete):
        return log_density(handlers.seed(model.fn, 0), (), kwargs, {**latent, **discrete})[0]

    return jax.vmap(one)(states) + log_det
