"""The surroundings of a run: its folder, its checkpoints, its options, its place among ranks."""
