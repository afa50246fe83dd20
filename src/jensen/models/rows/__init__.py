"""Models whose rows are independent given what they share, evaluated on any number of rows."""

from jensen.models.rows.layout import CodeSite, RowLayout, RowSite
from jensen.models.rows.model import Parts, RowModel
from jensen.models.rows.target import RowTarget, row_target

__all__ = ["CodeSite", "Parts", "RowLayout", "RowModel", "RowSite", "RowTarget", "row_target"]
