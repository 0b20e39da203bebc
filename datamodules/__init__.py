"""Prepared arrays to SliceBatch; knows files, not models."""
