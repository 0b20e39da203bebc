"""Public data sets to cohorts, one file each."""
