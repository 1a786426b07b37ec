"""Numba wing: the CPU engine. `jit` alone knows Numba's options, its vectors and its cache."""
