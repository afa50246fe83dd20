"""NumPyro's own methods as peers, at the settings people use."""

import time

import jax
import numpy as np
import numpyro
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO, autoguide


def nuts(model, data, seed: int) -> dict:
    """NUTS, one chain, 500 warm-up and 500 draws."""
    watch, cpu = time.perf_counter(), time.process_time()
    with jax.enable_x64(True):
        sampler = MCMC(NUTS(model), num_warmup=500, num_samples=500, progress_bar=False)
        sampler.run(jax.random.key(seed), **data)
        draws = {k: np.asarray(v) for k, v in sampler.get_samples().items()}
    return {"draws": draws, "seconds": time.perf_counter() - watch, "cpu": time.process_time() - cpu}


def _svi(guide_class):
    def run(model, data, seed: int, steps: int = 5000, rate: float = 0.01, num_draws: int = 4000) -> dict:
        watch, cpu = time.perf_counter(), time.process_time()
        with jax.enable_x64(True):
            guide = guide_class(model)
            svi = SVI(model, guide, numpyro.optim.Adam(rate), Trace_ELBO())
            result = svi.run(jax.random.key(seed), steps, progress_bar=False, **data)
            latent = guide.sample_posterior(jax.random.key(seed + 1), result.params, sample_shape=(num_draws,))
            predictive = numpyro.infer.Predictive(model, latent)
            sites = predictive(jax.random.key(seed + 2), **data)
            draws = {k: np.asarray(v) for k, v in {**sites, **latent}.items()}
        return {"draws": draws, "seconds": time.perf_counter() - watch, "cpu": time.process_time() - cpu}

    return run


PEERS = {
    "nuts": nuts,
    "autonormal": _svi(autoguide.AutoNormal),
    "automultivariatenormal": _svi(autoguide.AutoMultivariateNormal),
}
"""Name -> function (model, data, seed) -> draws and seconds. SVI peers: Adam 0.01, 5,000 steps."""
