"""Leaf package: arithmetic on arrays, three wings with the same rooms.

``reference`` (NumPy, readable before fast), ``cpu`` (Numba), ``cuda`` (CUDA sources). A kernel is found by
(wing, room). Nothing here imports the rest of qengine; callers validate, kernels assume.
"""
