"""Data that do not fit in memory or come in rows of differing lengths: sources of minibatches for `jn.svi`."""

from jensen._data.sources import AbstractSource, Batches, Ragged

__all__ = ["AbstractSource", "Batches", "Ragged"]
