"""Lung masks: found, checked, told apart."""
