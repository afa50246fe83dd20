"""Where minibatches come from: arrays in memory or memory-mapped, an iterable of batches, rows of ragged lengths."""

from jensen._data.sources.batches import Batches
from jensen._data.sources.contract import AbstractSource, Batch, Piece
from jensen._data.sources.ragged import Ragged
from jensen._data.sources.rows import Rows, mapped

__all__ = ["AbstractSource", "Batch", "Batches", "Piece", "Ragged", "Rows", "mapped"]
