"""Large arrays go in small blocks that ask for memory ahead, and results leave past the caches.

The hardware's own prefetch stops at page ends and falls behind where passes alternate; an ordinary store first reads
the line that it overwrites.
"""

import numpy as np

from .jit import allocating, inner, prefetch

#: Bytes beyond a block's start that it asks for at least; bytes of a cache line; bytes of the larger side of a job that
#: stays in the second-level cache.
AHEAD, LINE, CACHED = 3072, 64, 1 << 20


@inner
def lead(x, out):
    """Elements before `out` reaches a cache line, where the arrays are large; all of them where they are not."""
    if x.size * max(x.itemsize, out.itemsize) <= CACHED:
        return x.size
    return min(((-out.ctypes.data) % LINE) // out.itemsize, x.size)


@inner
def ask_ahead(address, count):
    """Prefetch what the block of `count` bytes at `address` will be followed by."""
    for line in range(count // LINE):
        prefetch(address + max(AHEAD, count) + LINE * line)


@allocating
def aligned_block(like, size):
    """Return (buffer, its address): `size` elements like those of an array, at a multiple of LINE."""
    raw = np.empty(size + LINE, like.dtype)
    skip = ((-raw.ctypes.data) % LINE) // raw.itemsize
    return raw[skip : skip + size], raw.ctypes.data + skip * raw.itemsize
