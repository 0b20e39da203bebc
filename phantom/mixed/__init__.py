"""A phantom cohort whose sites have different labels."""
