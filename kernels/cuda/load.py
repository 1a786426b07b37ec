"""Kernels on a device: the only module that imports CuPy.

A launch goes to the caller's current stream and returns at once.
"""

from __future__ import annotations

import functools

from . import arguments, sources


def array_module():
    """Return CuPy."""
    import cupy

    return cupy


@functools.cache
def _compiled(room, device):
    # CuPy keeps compiled modules per device itself; a module object holds one.
    return array_module().RawModule(code=sources.assemble(room), options=sources.options(), backend="nvrtc")


@functools.cache
def _function(room, name, device):
    return _compiled(room, device).get_function(name)


def multiprocessors():
    """Return the number of multiprocessors of the current device."""
    return array_module().cuda.Device().attributes["MultiProcessorCount"]


def launch(room, name, blocks, threads, *values):
    """Launch a kernel on the current device and stream.

    Parameters
    ----------
    room, name : str
        File (without suffix) and kernel.
    blocks, threads : int
        Of a 1-D grid and of a block.
    *values
        Arguments; numbers take the types of the parameters.
    """
    kernel = sources.kernels(room)[name]
    if not 0 < threads <= kernel.threads:
        raise ValueError(f"{name} takes 1 to {kernel.threads} threads a block; got {threads}")
    device = array_module().cuda.Device().id
    _function(room, name, device)((blocks,), (threads,), tuple(arguments.prepare(kernel, values)))
