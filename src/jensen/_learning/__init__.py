"""Parameters maximised together with q: EM where the latents' conditional is conjugate, variational EM elsewhere."""

from jensen._learning.learning import Learning

__all__ = ["Learning"]
