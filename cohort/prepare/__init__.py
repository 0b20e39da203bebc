"""A cohort to prepared arrays: parallel, resumable, each scan whole or not at all."""
