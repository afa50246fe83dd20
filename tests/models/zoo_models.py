"""The models of the zoo: one small NumPyro program for every way of writing one that users have."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.contrib.control_flow import scan
from numpyro.distributions import constraints, transforms
from numpyro.infer.reparam import LocScaleReparam


def normal_mean(y):
    mu = numpyro.sample("mu", dist.Normal(0.0, 10.0))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def eight_schools(sigma, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", len(sigma)):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


def nested_plates(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    groups, rows = y.shape
    with numpyro.plate("group", groups, dim=-2):
        a = numpyro.sample("a", dist.Normal(mu, 1.0))
        with numpyro.plate("row", rows, dim=-1):
            b = numpyro.sample("b", dist.Normal(a, 0.5))
            numpyro.sample("y", dist.StudentT(4.0, b, 0.3), obs=y)


def crossed_plates(y):
    row_plate, column_plate = numpyro.plate("row", y.shape[0], dim=-2), numpyro.plate("column", y.shape[1], dim=-1)
    with row_plate:
        a = numpyro.sample("a", dist.Normal(0, 1))
    with column_plate:
        b = numpyro.sample("b", dist.Laplace(0, 1))
    with row_plate, column_plate:
        numpyro.sample("y", dist.Normal(a + b, 0.7), obs=y)


def deterministic_sites(sigma, y):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfNormal(5))
    numpyro.deterministic("log_tau", jnp.log(tau))
    with numpyro.plate("school", len(sigma)):
        z = numpyro.sample("z", dist.Normal(0, 1))
        theta = numpyro.deterministic("theta", mu + tau * z)
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


def factor_site(x):
    w = numpyro.sample("w", dist.Normal(0, 1).expand([3]).to_event(1))
    numpyro.factor("smooth", -0.5 * ((w[1:] - w[:-1]) ** 2).sum())
    with numpyro.plate("row", len(x)):
        numpyro.factor("per_row", -jax.nn.softplus(x * w[0]))


def masked_nan(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    with numpyro.plate("row", len(y)), handlers.mask(mask=~jnp.isnan(y)):
        numpyro.sample("y", dist.Normal(mu, 2.0), obs=y)


def mask_method(y, keep):
    mu = numpyro.sample("mu", dist.Cauchy(0, 1))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Normal(mu, 2.0).mask(keep), obs=y)


def scaled_likelihood(y):
    rate = numpyro.sample("rate", dist.Gamma(2.0, 1.0))
    with numpyro.plate("row", len(y)), handlers.scale(scale=2.5):
        numpyro.sample("y", dist.Exponential(rate), obs=y)


def positive_supports(y):
    a = numpyro.sample("a", dist.LogNormal(0.0, 1.0))
    b = numpyro.sample("b", dist.InverseGamma(3.0, 2.0))
    c = numpyro.sample("c", dist.Pareto(1.5, 3.0))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Weibull(a + c, b), obs=y)


def interval_supports(k, total_count):
    p = numpyro.sample("p", dist.Beta(2.0, 3.0))
    shift = numpyro.sample("shift", dist.Uniform(-2.0, 5.0))
    upper = numpyro.sample("upper", dist.TruncatedNormal(0.0, 1.0, high=1.5))
    logits = jax.scipy.special.logit(p) + 0.1 * shift + upper
    with numpyro.plate("row", len(k)):
        numpyro.sample("k", dist.Binomial(total_count, logits=logits), obs=k)


def simplex(counts):
    p = numpyro.sample("p", dist.Dirichlet(jnp.array([1.0, 2.0, 3.0, 0.5])))
    with numpyro.plate("row", counts.shape[0]):
        numpyro.sample("counts", dist.Multinomial(10, p), obs=counts)


def simplex_plate(counts):
    with numpyro.plate("row", counts.shape[0]):
        p = numpyro.sample("p", dist.Dirichlet(jnp.ones(counts.shape[1])))
        numpyro.sample("counts", dist.Multinomial(10, p), obs=counts)


def ordered(x, grade):
    beta = numpyro.sample("beta", dist.Normal(0, 1))
    prior = dist.TransformedDistribution(dist.Normal(0, 2).expand([3]).to_event(1), transforms.OrderedTransform())
    cuts = numpyro.sample("cuts", prior)
    with numpyro.plate("row", len(x)):
        numpyro.sample("grade", dist.OrderedLogistic(beta * x, cuts), obs=grade)


def positive_ordered(y):
    knots = numpyro.sample("knots", dist.ImproperUniform(constraints.positive_ordered_vector, (), (3,)))
    numpyro.factor("prior", -knots.sum())
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Normal(knots[1], knots[0] + 0.1), obs=y)


def corr_cholesky(y):
    root = numpyro.sample("root", dist.LKJCholesky(3, 2.0))
    scale = numpyro.sample("scale", dist.HalfNormal(1.0).expand([3]).to_event(1))
    with numpyro.plate("row", y.shape[0]):
        numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(3), scale_tril=scale[:, None] * root), obs=y)


def corr_matrix(y):
    corr = numpyro.sample("corr", dist.LKJ(3, 1.5))
    with numpyro.plate("row", y.shape[0]):
        numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(3), covariance_matrix=corr), obs=y)


def scale_tril(y):
    root = numpyro.sample("root", dist.WishartCholesky(5.0, rate_matrix=2.0 * jnp.eye(3)))
    with numpyro.plate("row", y.shape[0]):
        numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(3), scale_tril=root), obs=y)


def covariance(y):
    sigma = numpyro.sample("sigma", dist.Wishart(5.0, rate_matrix=2.0 * jnp.eye(3)))
    with numpyro.plate("row", y.shape[0]):
        numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(3), covariance_matrix=sigma), obs=y)


def circular(angle):
    loc = numpyro.sample("loc", dist.VonMises(0.3, 1.0))
    kappa = numpyro.sample("kappa", dist.Exponential(0.5))
    with numpyro.plate("row", len(angle)):
        numpyro.sample("angle", dist.VonMises(loc, kappa), obs=angle)


def zero_sum(y):
    effect = numpyro.sample("effect", dist.ZeroSumNormal(1.0, (4,)))
    with numpyro.plate("row", y.shape[0]):
        numpyro.sample("y", dist.Normal(effect, 1.0).to_event(1), obs=y)


def to_event_and_expand(y):
    a = numpyro.sample("a", dist.Normal(0, 1).expand([2, 3]).to_event(2))
    b = numpyro.sample("b", dist.Normal(0, 1).expand([3]))
    c = numpyro.sample("c", dist.Gamma(2.0, jnp.array([1.0, 2.0])[:, None]).expand([2, 3]).to_event(1))
    numpyro.sample("y", dist.Normal(a + b, c).to_event(2), obs=y)


def obs_mask(y, known):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    with numpyro.plate("row", len(y)):
        full = numpyro.sample("y", dist.Normal(mu, 1.0), obs=y, obs_mask=known)
        numpyro.sample("copy", dist.Normal(full, 3.0), obs=jnp.zeros(len(y)))


def scan_chain(y):
    drift = numpyro.sample("drift", dist.Normal(0, 1))
    noise = numpyro.sample("noise", dist.HalfNormal(1.0))

    def step(level, value):
        level = numpyro.sample("level", dist.Normal(drift + 0.9 * level, noise))
        numpyro.sample("y", dist.Normal(level, 0.5), obs=value)
        return level, None

    scan(step, jnp.zeros(()), y)


def scan_positive(y):
    def step(level, value):
        with numpyro.plate("series", y.shape[1]):
            level = numpyro.sample("level", dist.LogNormal(jnp.log(level), 0.3))
            numpyro.deterministic("half", level / 2)
            numpyro.sample("y", dist.Exponential(1.0 / level), obs=value)
        return level, None

    scan(step, jnp.ones(y.shape[1]), y)


def observed_first(x, y):
    with numpyro.plate("row", len(x)):
        numpyro.sample("x", dist.Normal(0.0, 1.0), obs=x)
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("row_again", len(x)):
        numpyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)


def multivariate_obs(y):
    loc = numpyro.sample("loc", dist.MultivariateNormal(jnp.zeros(2), jnp.array([[2.0, 0.5], [0.5, 1.0]])))
    with numpyro.plate("row", y.shape[0]):
        numpyro.sample("y", dist.MultivariateStudentT(5.0, loc, jnp.eye(2)), obs=y)


def transformed(y):
    prior = dist.TransformedDistribution(
        dist.Normal(0.0, 1.0), [transforms.AffineTransform(1.0, 2.0), transforms.ExpTransform()]
    )
    scale = numpyro.sample("scale", prior)
    with numpyro.plate("row", len(y)):
        likelihood = dist.TransformedDistribution(dist.Normal(0.0, scale), transforms.ExpTransform())
        numpyro.sample("y", likelihood, obs=y)


def bounds_from_data(low, high, y):
    with numpyro.plate("row", len(y)):
        a = numpyro.sample("a", dist.Uniform(low, high))
        b = numpyro.sample("b", dist.TruncatedNormal(0.0, 1.0, low=low))
        numpyro.sample("y", dist.Normal(a + b, 1.0), obs=y)


def size_from_data(group, y):
    num_groups = int(group.max()) + 1
    with numpyro.plate("group", num_groups):
        a = numpyro.sample("a", dist.Normal(0, 1))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Normal(a[group], 1.0), obs=y)


def size_from_floats(knots, y):
    inner = knots[knots > 0.0]  # a shape that depends on float values
    w = numpyro.sample("w", dist.Normal(0, 1).expand([inner.shape[0]]).to_event(1))
    numpyro.sample("y", dist.Normal((w * inner).sum(), 1.0), obs=y)


def defaults(y, scale=2.0, *, heavy=False):
    mu = numpyro.sample("mu", dist.StudentT(2.0) if heavy else dist.Normal(0, 1))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Normal(mu, scale), obs=y)


def python_arguments(n, y, nu, heavy, link, offset=None):
    mu = numpyro.sample("mu", dist.StudentT(nu, 0, 1) if heavy else dist.Normal(0, 1))
    with numpyro.plate("row", n):
        rate = jnp.exp(mu) if link == "log" else jax.nn.softplus(mu)
        numpyro.sample("y", dist.Poisson(rate if offset is None else rate * offset), obs=y)


def mixture(y):
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.ones(2)))
    means = numpyro.sample("means", dist.Normal(0, 3).expand([2]).to_event(1))
    with numpyro.plate("row", len(y)):
        parts = dist.MixtureSameFamily(dist.Categorical(probs=weights), dist.Normal(means, 1.0))
        numpyro.sample("y", parts, obs=y)


def zero_inflated(count, x):
    gate = numpyro.sample("gate", dist.Beta(1.0, 1.0))
    with numpyro.plate("feature", x.shape[1]):
        w = numpyro.sample("w", dist.Normal(0, 1))
    with numpyro.plate("row", x.shape[0]):
        numpyro.sample("count", dist.ZeroInflatedPoisson(gate, jnp.exp(x @ w)), obs=count)


def gaussian_process(x, y):
    length = numpyro.sample("length", dist.InverseGamma(4.0, 3.0))
    kernel = jnp.exp(-0.5 * ((x[:, None] - x) / length) ** 2) + 0.1 * jnp.eye(len(x))
    numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(len(x)), covariance_matrix=kernel), obs=y)


def random_walk(y):
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    path = numpyro.sample("path", dist.GaussianRandomWalk(scale, num_steps=len(y)))
    numpyro.sample("y", dist.Bernoulli(logits=path).to_event(1), obs=y)


def dict_data(rows):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    with numpyro.plate("row", len(rows["y"])):
        numpyro.sample("y", dist.Normal(mu * rows["x"], 1.0), obs=rows["y"])


def random_constants(y):
    shift = jax.random.normal(numpyro.prng_key(), (2,)).sum() * 0 + 1.0
    mu = numpyro.sample("mu", dist.Normal(shift, 1.0))
    with numpyro.plate_stack("axis", y.shape):
        numpyro.sample("y", dist.Logistic(mu, 1.0), obs=y)


whole_scaled = handlers.scale(eight_schools, scale=0.5)
reparameterised = handlers.reparam(eight_schools, config={"theta": LocScaleReparam(0)})
conditioned = handlers.condition(eight_schools, data={"y": np.array([28.0, 8.0, -3.0])})
partially_applied = functools.partial(defaults, scale=0.5)


class AsObject:
    """A model that is an object with state."""

    def __init__(self, scale):
        self.scale = scale

    def __call__(self, y):
        mu = numpyro.sample("mu", dist.Normal(0, self.scale))
        with numpyro.plate("row", len(y)):
            numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def rosenbrock(z):
    return -((1 - z["x"]) ** 2) - 5 * (z["y"] - z["x"] ** 2) ** 2


def gamma_simplex(z, counts):
    return jnp.sum(counts * jnp.log(z["p"])) + 2 * jnp.log(z["rate"]) - z["rate"]


def linear_gaussian(z, x, y):
    return -0.5 * jnp.sum(z["w"] ** 2) - 0.5 * jnp.sum((y - x @ z["w"]) ** 2)
