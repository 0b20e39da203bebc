"""A web page on this machine: a scan in, masks and numbers out, and runs side by side."""
