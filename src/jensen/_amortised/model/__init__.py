"""Models whose rows are independent given what they share, evaluated on any number of rows."""

from jensen._amortised.model.layout import CodeSite, RowLayout, RowSite
from jensen._amortised.model.model import Parts, RowModel
from jensen._amortised.model.target import RowTarget, row_target

__all__ = ["CodeSite", "Parts", "RowLayout", "RowModel", "RowSite", "RowTarget", "row_target"]
