"""Exact divergence: count, list, separate and identify schemes without sampling.

`sides` binds a scheme to its multipliers; `lattice` counts floor forms by floor sums, `staircase` any monotone
scheme by the thresholds of its codes. The two engines know nothing of each other and must agree digit for digit.
"""
