"""Ways to work on many scans, each for itself: in this process, in processes beside it, or on a cluster's workers."""
