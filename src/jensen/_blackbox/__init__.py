"""Parts of black-box variational inference: starts, choice of estimators, stochastic ascent, exact tables."""
