"""Kernels and arrays on a device: the only module that imports CuPy.

A launch goes to the current device and the caller's current stream, and returns at once.
"""

from __future__ import annotations

import functools
import sys

from . import arguments, sources


def array_module():
    """Return CuPy."""
    import cupy

    return cupy


def problem():
    """Return None if there is a device to run on, or what is wrong."""
    try:
        count = array_module().cuda.runtime.getDeviceCount()
    except ImportError as error:
        return f"CuPy does not load ({error})"
    except array_module().cuda.runtime.CUDARuntimeError as error:
        return f"CuPy is installed, but finds no CUDA device ({error})"
    return None if count else "CuPy is installed, but finds no CUDA device"


def devices():
    """Return how many devices are visible."""
    return array_module().cuda.runtime.getDeviceCount()


def device_number():
    """Return the number of the current device."""
    return array_module().cuda.Device().id


def device(number):
    """Return a context in which the device of that number is the current one of this thread."""
    return array_module().cuda.Device(number)


def multiprocessors():
    """Return the number of multiprocessors of the current device."""
    return _multiprocessors(array_module().cuda.Device().id)


@functools.cache
def _multiprocessors(device):
    runtime = array_module().cuda.runtime
    return runtime.deviceGetAttribute(runtime.cudaDevAttrMultiProcessorCount, device)


def device_of(array):
    """Return a context in which the array's device is the current one."""
    return array.device


def adopt(value):
    """Return a CuPy array over the memory of any device array, without a copy.

    DLPack comes first: with it the current stream waits for the stream on which the owner (PyTorch, say) works.
    """
    cupy = array_module()
    if isinstance(value, cupy.ndarray):
        return value
    if hasattr(value, "__dlpack__"):
        return cupy.from_dlpack(value)
    return cupy.asarray(value)


def hand_over(array, like):
    """Return a CuPy array as an array of the kind of `like`, over the same memory, where its package takes DLPack.

    The stream on which that package works waits for the current one.
    """
    if isinstance(like, array_module().ndarray):
        return array
    namespace = getattr(like, "__array_namespace__", None)
    package = namespace() if namespace else sys.modules.get(type(like).__module__.partition(".")[0])
    take = getattr(package, "from_dlpack", None)
    return array if take is None else take(array)


@functools.cache
def _function(room, name, device):
    return _module(room, device).get_function(name)


@functools.cache
def _module(room, device):
    return array_module().RawModule(code=sources.assemble(room), options=sources.options())


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
    function = _function(room, name, array_module().cuda.Device().id)
    function((blocks,), (threads,), tuple(arguments.prepare(kernel, values)))
