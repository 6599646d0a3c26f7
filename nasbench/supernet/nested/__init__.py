"""Nested sub-networks: chains, and bundles that hold one network for every budget."""
