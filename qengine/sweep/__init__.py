"""Sweeps: how often, where and by how much schemes disagree, by counting pairs (multiplier, accumulator)."""
