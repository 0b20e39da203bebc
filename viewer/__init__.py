"""A web page to look at a model's answer to one's own scan, and at runs side by side."""
