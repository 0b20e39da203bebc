"""One scan in physical space: files, checks, lungs and resampling; numpy and scipy only."""
