"""Many scans: cohort.csv, splits, reports, importers, and preparation for training."""
