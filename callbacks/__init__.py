"""What happens around training: relabelling, checkpoints, result files, overlays."""
