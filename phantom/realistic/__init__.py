"""Synthetic chest CT like real CT where a model looks: every patient and scanner drawn from wide ranges."""
