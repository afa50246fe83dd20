"""Data on their way in: columns as arrays, checks before anything is traced, sources of batches."""
