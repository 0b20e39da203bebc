"""Plain nn.Module architectures."""
