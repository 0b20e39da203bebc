"""Sweep files and what is drawn of a sweep."""
