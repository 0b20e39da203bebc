"""A segmented scan to files, one module a format."""
