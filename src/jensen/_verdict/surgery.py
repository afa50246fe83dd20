"""The ELBO of a data set taken apart: what codes say of their rows, and how far together they are from the prior."""

from dataclasses import dataclass

import numpy as np
from scipy import special


@dataclass(frozen=True)
class Surgery:
    """L / N = reconstruction - mutual information - marginal divergence (- that of what rows share / N), in nats a row.

    (1/N) Σ_n KL(q(z | x_n) ‖ p(z)) = I_q(n; z) + KL(q(z) ‖ p(z)) with the aggregate posterior
    q(z) = (1/N) Σ_n q(z | x_n). Hoffman and Johnson (2016), equation 8. I is at most log N; near zero the
    codes ignore the rows (posterior collapse).

    Attributes:
        elbo: L / N. reconstruction: E log p(x_n | z_n). divergence: the mean of the rows' KL, the sum of the next two.
        mutual_information, mutual_information_se: I_q(n; z). marginal, marginal_se: KL(q(z) ‖ p(z)).
        shared: terms of the latents outside the plate, divided by N. rows: N; log N bounds I.
        active: variance over rows of each coordinate's mean, (dim,): near zero for coordinates that are not used
            (Burda et al. 2016, section 5.2).
    """

    elbo: float
    reconstruction: float
    divergence: float
    mutual_information: float
    mutual_information_se: float
    marginal: float
    marginal_se: float
    shared: float
    rows: int
    active: np.ndarray

    def __str__(self) -> str:
        return "\n".join(
            [
                f"ELBO a row            {self.elbo:12.4f} nats",
                f"  reconstruction      {self.reconstruction:12.4f}",
                f"- mutual information  {self.mutual_information:12.4f} ± {self.mutual_information_se:.4f}   "
                f"(at most log {self.rows} = {np.log(self.rows):.4f})",
                f"- marginal divergence {self.marginal:12.4f} ± {self.marginal_se:.4f}",
                f"+ shared latents      {self.shared:12.4f}",
                f"active coordinates    {int((self.active > 0.01).sum()):5d} of {self.active.size}",
            ]
        )

    __repr__ = __str__


def log_aggregate(own: np.ndarray, others: np.ndarray, size: int) -> np.ndarray:
    """log q(z) of draws, from the density under their own row (draws,) and under other rows (draws, others) of N - 1.

    Where the other rows are a sample, their mean stands for all of them: unbiased for q(z).
    """
    if not others.shape[1]:
        return own - np.log(size)
    rest = special.logsumexp(others, axis=1) - np.log(others.shape[1]) + np.log(size - 1.0)
    return np.logaddexp(own, rest) - np.log(size)
