"""Variational autoencoders of scikit-learn's digits, by the ELBO and by an importance-weighted bound, with pictures.

python examples/digits_vae.py [--epochs 200 --hidden 128 --rows 1437]
"""

import argparse

import equinox as eqx
import jax
import matplotlib
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.contrib.module import eqx_module
from sklearn.datasets import load_digits

import jensen as jn

matplotlib.use("Agg")
import matplotlib.pyplot as plt

LATENT = 8


def pictures(decoder, fits, held_out, path):
    """Rows, their reconstructions, and samples of the prior, one block for each bound."""
    figure, axes = plt.subplots(1 + 2 * len(fits), 10, figsize=(8, 1 + 1.7 * len(fits)))
    lines = [("held-out rows", held_out[:10])]
    rng = np.random.default_rng(0)
    for name, fit in fits.items():
        net = jax.vmap(fit.estimates.into("decoder", decoder))
        lines.append((f"{name}: reconstructions", jax.nn.sigmoid(net(fit.infer({"x": held_out[:10]}).loc))))
        lines.append((f"{name}: samples", jax.nn.sigmoid(net(rng.normal(size=(10, LATENT))))))
    for row, (title, images) in zip(axes, lines, strict=True):
        for axis, image in zip(row, np.asarray(images), strict=True):
            axis.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
            axis.set_axis_off()
        row[0].set_title(title, loc="left", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Fit both, compare held-out rows, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--rows", type=int, default=1437)
    parser.add_argument("--picture", default="digits_vae.png")
    arguments = parser.parse_args()
    digits = (load_digits().data > 8).astype(float)
    order = np.random.default_rng(0).permutation(len(digits))
    train, held_out = digits[order[: arguments.rows]], digits[order[1437:]]
    decoder = eqx.nn.MLP(LATENT, 64, arguments.hidden, 1, key=jax.random.key(0))

    def vae(x):
        net = eqx_module("decoder", decoder)
        with numpyro.plate("row", len(x)):
            z = numpyro.sample("z", dist.Normal(0, 1).expand([LATENT]).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=jax.vmap(net)(z)).to_event(1), obs=x)

    fits = {}
    for name, bound in (("ELBO", jn.ELBO()), ("L_5", jn.ImportanceWeighted(5))):
        method = jn.amortised(hidden=(arguments.hidden,), bound=bound, max_epochs=arguments.epochs)
        fits[name] = jn.fit(vae, {"x": train}, method, precision="single")
        held = fits[name].infer({"x": held_out}).log_evidence().mean()
        print(f"{name}: log p of held-out rows about {held:.2f} nats a row. {fits[name].status}")
    pictures(decoder, fits, held_out, arguments.picture)
    print(fits["ELBO"].surgery())
    print(fits["ELBO"].check())


if __name__ == "__main__":
    main()
