"""Architectures: plain nn.Modules, each of which keeps the contract of `networks.contract`."""
