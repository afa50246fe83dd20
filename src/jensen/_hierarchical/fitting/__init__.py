"""Parts of hierarchical variational models: starts, estimators, moments."""
