"""Ways in and out: ArviZ, files, predictions."""
