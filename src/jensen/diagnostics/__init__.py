"""Measures behind a verdict, for those who want them by themselves."""
