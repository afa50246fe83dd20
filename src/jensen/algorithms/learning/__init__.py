"""Parameters maximised together with q: EM where the latents' conditional is conjugate, variational EM elsewhere."""

from jensen.algorithms.learning.learning import Learning

__all__ = ["Learning"]
