"""A new scan to masks and measurements."""
