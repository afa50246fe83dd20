"""Where minibatches come from: arrays in memory or memory-mapped, an iterable of batches, rows of ragged lengths."""

from jensen.models.sources.batches import Batches
from jensen.models.sources.contract import AbstractSource, Batch, Piece
from jensen.models.sources.ragged import Ragged
from jensen.models.sources.rows import Rows, mapped

__all__ = ["AbstractSource", "Batch", "Batches", "Piece", "Ragged", "Rows", "mapped"]
