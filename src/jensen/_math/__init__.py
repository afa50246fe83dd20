"""Pure numerical functions: they know arrays, not models, families or fits."""
