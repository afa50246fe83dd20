"""A pool of importance draws from q and from a heavier-tailed relative of it."""

from jensen._verdict.importance import Pool

__all__ = ["Pool"]
