"""The χ upper bound, with a confidence limit in place of its biased estimate."""

from dataclasses import dataclass

import numpy as np
from scipy import special

from jensen._base.arguments import number


@dataclass(frozen=True)
class ChiUpper:
    """CUBO_n = 1/n · log E_r[wⁿ] ≥ log p(x), w = p(x, z) / r(z), n ≥ 1, in nats.

    Dieng, Tran, Ranganath, Paisley and Blei (2017), equation 4. Not an objective here: the log of an average is biased
    low, so `estimate` may lie below log p(x). `limit` is a one-sided confidence limit: the average of wⁿ plus z_level
    standard errors, and +inf where the weights' tail (Pareto k̂ of w) leaves wⁿ without a variance, 2n k̂ ≥ 1.

    Example:
        >>> round(ChiUpper(2.0).estimate(np.log(np.array([1.0, 3.0]))), 4)  # log(5) / 2
        0.8047
    """

    order: float = 2.0

    def __post_init__(self) -> None:
        number(self.order, "order", "Option: order of ChiUpper.", low=1.0)

    def estimate(self, log_weights: np.ndarray) -> float:
        """The plug-in estimate, biased low."""
        logs = self.order * np.asarray(log_weights, float)
        return float(special.logsumexp(logs) - np.log(len(logs))) / self.order

    def limit(self, log_weights: np.ndarray, level: float = 0.975, khat: float | None = None) -> float:
        """The upper confidence limit of CUBO_n at this level; `khat` is the Pareto k̂ of the weights where known."""
        logs = np.asarray(log_weights, float)
        top = logs.max()
        if not np.isfinite(top) or (khat is not None and 2.0 * self.order * khat >= 1.0):
            return np.inf
        powers = np.exp(self.order * (logs - top))
        error = powers.std(ddof=1) / np.sqrt(len(powers))
        return float(top + np.log(powers.mean() + special.ndtri(level) * error) / self.order)
