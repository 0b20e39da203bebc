"""Synthetic chest CT with known fuzzy truth."""
