"""Scans in physical space: reading, checking, lungs, cohorts and phantoms; numpy and scipy only."""
