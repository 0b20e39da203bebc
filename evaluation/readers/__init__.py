"""The reader study and the reader noise model."""
