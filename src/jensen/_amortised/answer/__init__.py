"""Answers of fits by an encoder: weights row by row, new rows answered without a refit."""

from jensen._amortised.answer.answer import AmortisedAnswer

__all__ = ["AmortisedAnswer"]
