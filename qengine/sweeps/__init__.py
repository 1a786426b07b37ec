"""Sweeps: how often, where and by how much schemes disagree, by counting pairs (multiplier, accumulator).

The package is not called ``sweep``: importing a module of it would put it in the place of the function `qengine.sweep`.
"""
