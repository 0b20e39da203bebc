"""The two papers as LightningModules; knows tensors, not files."""
