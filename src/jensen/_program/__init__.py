"""A model as the rest of the library sees it: a program traced, read and checked, before any method knows of it."""
