"""Kernels and arrays on a device: the only module that imports CuPy.

A launch goes to the current device and the caller's current stream, and returns at once.
"""

from __future__ import annotations

import contextlib
import functools
import sys

from . import arguments, sources

#: Elements of a host array that are on the device at one time.
PIECE = 1 << 26


def array_module():
    """Return CuPy."""
    import cupy

    return cupy


def problem():
    """Return None if there is a device to run on and a compiler, or what is missing and what to do."""
    try:
        cuda = array_module().cuda
    except ImportError as error:
        return f"CuPy, which does not load ({error}): reinstall the extra that fits the driver (cuda12, cuda13)"
    try:
        count, found = cuda.runtime.getDeviceCount(), ""
    except cuda.runtime.CUDARuntimeError as error:
        count, found = 0, f" ({error})"
    if not count:
        return (
            f"a CUDA device and its driver: CuPy is installed, but finds no CUDA device{found}; run it where "
            "nvidia-smi lists one, or install the extra that fits the driver (cuda12, cuda13)"
        )
    try:
        cuda.nvrtc.getVersion()
    except Exception as error:  # a library that is missing, or no symbol of that name in it: CuPy has many errors
        return (
            f"NVRTC, which compiles its kernels: CuPy does not load it ({' '.join(str(error).split())}); pip install "
            "'cupy-cuda12x[ctk]' or 'cupy-cuda13x[ctk]', by the CUDA version of the driver, as the extras cuda12 and "
            "cuda13 do"
        )
    return None


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


def device_number_of(array):
    """Return the number of the device that a CuPy array lives on."""
    return array.device.id


def adopt(value):
    """Return a CuPy array over the memory of any device array, without a copy.

    DLPack comes first: with it the current stream waits for the stream on which the owner (PyTorch, say) works.
    """
    cupy = array_module()
    if isinstance(value, cupy.ndarray):
        return value
    if not hasattr(value, "__dlpack_device__"):
        return cupy.asarray(value)
    with cupy.cuda.Device(value.__dlpack_device__()[1]), _known_stream():
        return cupy.from_dlpack(value)


def _known_stream():
    """Return a context in which the current stream is one that every package takes from DLPack.

    PyTorch refuses the per-thread default stream (``CUPY_CUDA_PER_THREAD_DEFAULT_STREAM=1``). The legacy default stream
    stands in for it: what is launched on the one afterwards waits for the other, by CUDA's own rule.
    """
    cuda = array_module().cuda
    if cuda.get_current_stream().ptr == cuda.runtime.streamPerThread:
        return cuda.ExternalStream(cuda.runtime.streamLegacy)
    return contextlib.nullcontext()


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
