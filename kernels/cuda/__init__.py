"""The CUDA wing: one kernel text that CuPy compiles for a device and the tests compile for the host.

``*.cu`` are the kernels, one file a room; ``*.cuh`` is what they are made of: arithmetic that rooms share, and a room's
own loops and rules by subject (``affine_layouts.cuh``). ``compiler.cuh`` alone knows the compiler. `sources` reads and
digests the texts and imports NumPy at most; `load` alone imports CuPy.
"""
