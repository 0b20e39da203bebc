"""Radiology reports to weak labels."""
