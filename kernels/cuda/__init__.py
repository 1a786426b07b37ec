"""The CUDA wing: one kernel text that CuPy compiles for a device and the tests compile for the host.

``*.cuh`` is arithmetic, pure functions; ``*.cu`` are grid-stride kernels over it, one file a room; ``compiler.cuh``
alone knows the compiler. `sources` reads and digests the texts and imports NumPy at most; `load` alone imports CuPy.
"""
