"""One confusion table per slice and the views of it."""
