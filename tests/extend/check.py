"""A check from outside: whether counts scatter as much as the model says that they do."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from jensen.extend import AbstractCheck, Finding


@dataclass(frozen=True)
class Dispersion(AbstractCheck):
    """Posterior predictive p-value of the index of dispersion of Poisson counts (Gelman, Meng and Stern 1996).

    Given the rate λ_s of draw s, D = Σ_i (y_i - λ_s)² / λ_s is compared with that of replicated counts, whose law is
    close to χ² with n degrees of freedom. A p-value outside `level` says that the model, not q, is at fault: then the
    verdict is "usable" at best.

    Attributes:
        observed, rate: the sites of the counts and of their rate. level: of p-values that are in order.
    """

    observed: str
    rate: str
    level: tuple[float, float] = (0.01, 0.99)

    def measure(self, material):
        """One line, from the corrected draws."""
        counts = material.answer.observed()[self.observed]
        rates = material.draws[self.rate].reshape(-1, 1)
        statistic = ((counts - rates) ** 2 / rates).sum(axis=1)
        tails = stats.chi2.sf(statistic, len(counts))
        value = float(np.average(tails, weights=material.pool.weights))
        passed = self.level[0] < value < self.level[1]
        yield Finding(
            f"dispersion of {self.observed}",
            value,
            f"p between {self.level[0]} and {self.level[1]}",
            passed,
            blocks="trusted",
            reason=""
            if passed
            else f"The counts '{self.observed}' do not scatter like Poisson counts: p = {value:.2g}.",
            remedy="Use a negative binomial likelihood, or give every count a rate of its own.",
        )
