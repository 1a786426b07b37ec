"""Grids of the kernels that go through an array: blocks, and strides that keep a thread's parameters in registers."""

from __future__ import annotations

import math

from . import load

#: Threads of a block.
THREADS = 256
#: Threads of a multiprocessor, where one thread keeps many numbers in registers and where it does not.
FEW, MANY = 1024, 2048


def blocks(threads, most=None):
    """Return how many blocks hold that many threads: at least one, and at most `most` threads a multiprocessor."""
    wanted = max(1, -(-threads // THREADS))
    return wanted if most is None else min(wanted, most // THREADS * load.multiprocessors())


def turning_stride(units, period):
    """Return how many threads go through `units` of four elements whose parameters come round each `period` elements.

    A whole number of turns through the parameters, so that a thread meets the same four in all its units; but as many
    as the device holds where one turn alone has more than twice that.
    """
    turn, room = period // math.gcd(period, 4), FEW * load.multiprocessors()
    stride = turn * max(1, min(room, units) // turn)
    return stride if stride <= 2 * room else room
