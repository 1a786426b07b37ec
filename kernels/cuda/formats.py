"""Number formats on a device: codes and scales of blocks, casts, and the way back; one launch an array."""

from __future__ import annotations

import numpy as np

from ..codes import FORMAT_BLOCK, FORMAT_SCALE, SCALE_TENSOR
from . import grid, load
from .grid import THREADS
from .load import PIECE


def _aligned(array, width):
    return array.data.ptr % width == 0


def _launch_blocks(name, x, row, numbers, tensor_scale, *outputs):
    """Launch ``{name}_blocks`` over rows of 2-D x, cut into blocks."""
    (rows, length), block = x.shape, int(row[FORMAT_BLOCK])
    if length % block == 0:  # blocks end where rows do
        rows, length = 1, rows * length
    blocks = -(-length // block)
    lanes = block // 4 if block % 4 == 0 and (block // 4).bit_count() == 1 and block <= 128 else 0
    vectors = _aligned(x, 16) and _aligned(outputs[0], 4) and (length % 4 == 0 or rows == 1)
    threads = lanes or 32
    launched = grid.blocks(rows * blocks * threads, grid.FEW)
    stride = launched * THREADS // threads
    asarray = load.array_module().asarray
    load.launch(
        "formats", f"{name}_blocks_f{8 * x.itemsize}", launched, THREADS, rows, length, block, blocks, stride % blocks,
        stride // blocks, x, lanes, vectors, asarray(row), asarray(numbers), tensor_scale, *outputs,
    )  # fmt: skip


def _launch_cast(name, x, row, numbers, scale, *outputs):
    """Launch ``{name}`` over flat x, all of it under one scale."""
    vectors = _aligned(x, 16) and _aligned(outputs[0], 4)
    asarray = load.array_module().asarray
    load.launch(
        "formats", f"{name}_f{8 * x.itemsize}", grid.blocks(x.size // 4 + 1, grid.FEW), THREADS, x.size, x, vectors,
        asarray(row), asarray(numbers), scale, *outputs,
    )  # fmt: skip


def encode(x, row, numbers, tensor_scale):
    """Encode a contiguous 2-D device array, blocks along its rows; nothing waits for the device.

    Parameters
    ----------
    x : float32 or float64 device array of shape (rows, length)
    row, numbers : arrays on the host
        ``Format.encode_row``.
    tensor_scale : float

    Returns
    -------
    codes : uint8 device array of x's shape
    scales : float32 device array of shape (rows, blocks)
        Without the tensor's scale; of shape (rows, 0) where the format has no blocks.
    scale_codes : uint8 device array of the same shape
        Zeros where scales have no codes.
    flag : uint32 device array
        One number: 1 if an element is NaN or infinite (then the rest means nothing), else 0.
    """
    arrays, block = load.array_module(), int(row[FORMAT_BLOCK])
    shape = (x.shape[0], -(-x.shape[1] // block) if block else 0)
    codes, flag = arrays.empty(x.shape, np.uint8), arrays.zeros(1, np.uint32)
    scales, scale_codes = arrays.empty(shape, np.float32), arrays.empty(shape, np.uint8)
    if x.size and row[FORMAT_SCALE] == SCALE_TENSOR:
        _launch_cast("encode", x.reshape(-1), row, numbers, tensor_scale, codes.reshape(-1), flag)
    elif x.size:
        _launch_blocks("encode", x, row, numbers, tensor_scale, codes, scales, scale_codes, flag)
    return codes, scales, scale_codes, flag


def _reconstruct(x, row, numbers, tensor_scale, recon, codes):
    flag = load.array_module().zeros(1, np.uint32)
    if row[FORMAT_SCALE] == SCALE_TENSOR:
        flat = codes.reshape(-1), recon.reshape(-1)
        _launch_cast("reconstruct", x.reshape(-1), row, numbers, tensor_scale, *flat, flag)
    else:
        _launch_blocks("reconstruct", x, row, numbers, tensor_scale, codes, recon, flag)


def _boxes(shape, block):
    """Cut (rows, length) into boxes of about `PIECE` elements that begin at blocks."""
    rows, length = shape
    width = min(length, max(PIECE // max(block, 1), 1) * max(block, 1))
    height = max(PIECE // width, 1) if width == length else 1
    for r in range(0, rows, height):
        for start in range(0, length, width):
            yield slice(r, r + height), slice(start, min(start + width, length))


def reconstruct(x, row, numbers, tensor_scale, recon, codes):
    """Rows of a 2-D float array, blocks along the last axis, into float64 `recon` and int32 `codes`.

    All of them contiguous, on the device; or on the host, from where they are copied piece by piece.
    """
    if x.size == 0:
        return
    if not isinstance(x, np.ndarray):
        _reconstruct(x, row, numbers, tensor_scale, recon, codes)
        return
    arrays = load.array_module()
    for box in _boxes(x.shape, int(row[FORMAT_BLOCK])):
        source = arrays.asarray(np.ascontiguousarray(x[box]))
        values, found = arrays.empty(source.shape, np.float64), arrays.empty(source.shape, np.int32)
        _reconstruct(source, row, numbers, tensor_scale, values, found)
        recon[box], codes[box] = values.get(), found.get()


def exponents(x, rounding):
    """Return (E8M0 codes of contiguous device x, first): first[0] < x.size is the index of what has none."""
    arrays = load.array_module()
    codes, first = arrays.empty(x.shape, np.uint8), arrays.full(1, x.size, np.uint64)
    if x.size:
        name = f"exponents_f{8 * x.itemsize}"
        load.launch("formats", name, grid.blocks(x.size, grid.MANY), THREADS, x.size, x, rounding, codes, first)
    return codes, first


def decode(codes, table):
    """Return what contiguous uint8 device codes stand for, by a float32 table on the host; nothing waits."""
    arrays = load.array_module()
    out = arrays.empty(codes.shape, np.float32)
    if codes.size:
        load.launch(
            "formats", "decode_codes", grid.blocks(codes.size // 4 + 1, grid.MANY), THREADS, codes.size, codes,
            _aligned(codes, 4), arrays.asarray(_full(table)), out,
        )  # fmt: skip
    return out


def _full(table):
    """Return a table with a number for each byte."""
    return np.concatenate([table, np.zeros(256 - table.size, np.float32)])


def decode_blocks(codes, table, scales, block, tensor_scale, exact, dtype):
    """Return (values of (rows, length) device codes, first): first[0] < size is the index of one that is infinite.

    ``float32(element * float32(scale * tensor_scale))``, or the exact product in float64.
    """
    arrays = load.array_module()
    rows, length = codes.shape
    out, first = arrays.empty(codes.shape, dtype), arrays.full(1, codes.size, np.uint64)
    if codes.size == 0:
        return out, first
    launched = grid.blocks(codes.size, grid.MANY)
    stride, magic, shift = launched * THREADS, 0, 0
    if length < 2**31 and block < 2**31:
        bits = (block - 1).bit_length()
        magic, shift = -(-(1 << (31 + bits)) // block), 31 + bits
    wide = (exact,) if np.dtype(dtype) == np.float64 else ()
    load.launch(
        "formats", f"decode_blocks_f{8 * np.dtype(dtype).itemsize}", launched, THREADS, rows, length, block,
        -(-length // block), stride % length, stride // length, magic, shift, codes, arrays.asarray(_full(table)),
        scales, tensor_scale, *wide, out, first,
    )  # fmt: skip
    return out, first
