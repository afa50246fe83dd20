"""Eight schools in plain Python: fit, summary, verdict, evidence, draws, predictions, a file and back.

python examples/eight_schools.py
"""

import numpy as np
import numpyro
import numpyro.distributions as dist

import jensen as jn
from jensen.datasets import eight_schools


def model(sigma, y=None):
    """Effects theta around a common mean mu with spread tau, non-centred."""
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", len(sigma)):
        z = numpyro.sample("z", dist.Normal(0, 1))
        theta = numpyro.deterministic("theta", mu + tau * z)
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


data = eight_schools()
print(jn.explain(model, data), end="\n\n")

fit = jn.fit(model, data)
print(fit.summary(["mu", "tau", "theta"]).round(2), end="\n\n")
print(fit.check(), end="\n\n")
print(fit.evidence(), end="\n\n")

theta = fit.sample(4000)["theta"]  # importance-corrected, because the verdict says usable
best = np.bincount(theta.argmax(axis=1), minlength=8) / len(theta)
print("chance that each school has the largest effect:", best.round(2))

again = fit.predict()["y"]
print("replicated effects as spread as the data:", np.mean(again.std(axis=1) >= data["y"].std()).round(2))

fit.save("eight_schools.jn")
loaded = jn.load("eight_schools.jn")
print("the file remembers:", loaded.check().verdict, loaded.elbo)
