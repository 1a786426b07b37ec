"""The CUDA number formats on the host: the suites of the other wings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qengine.affine.elements import ELEMENTS
from qengine.affine.formats import element_format, formats, get_format
from qengine.kernels.cuda import formats as kernels
from qengine.kernels.reference import formats as reference
from tests.kernels.test_formats import inputs, options

from .device import Cuda, HostDevice

Device = HostDevice | Cuda
SCALES = (1.0, 0.25, 0.1, 1e-5)


def same(device: Device, x: Any, row: Any, numbers: Any, tensor_scale: float) -> None:
    """Codes, flags and the bits of the values; host arrays and device arrays, encoded and reconstructed."""
    wanted = np.full(x.shape, 7.0), np.full(x.shape, 99, np.int32)
    reference.reconstruct(x, row, numbers, tensor_scale, *wanted)
    recon, codes = np.full(x.shape, 7.0), np.full(x.shape, 99, np.int32)
    kernels.reconstruct(x, row, numbers, tensor_scale, recon, codes)
    np.testing.assert_array_equal(codes, wanted[1])
    np.testing.assert_array_equal(recon, wanted[0])
    number = ~np.isnan(recon)
    np.testing.assert_array_equal(np.signbit(recon[number]), np.signbit(wanted[0][number]))
    given = device.asarray(x)
    found, scales, _, flag = kernels.encode(given, row, numbers, tensor_scale)
    np.testing.assert_array_equal(found.get(), np.where(wanted[1] < 0, -1 - wanted[1], wanted[1]))
    assert int(flag[0]) == 0
    if row[0]:
        amax = reference.block_maxima(x.astype(np.float64), row[0]) if x.size else np.zeros(scales.shape)
        whole = scales.get().astype(np.float64)
        if row[1] == 2:
            whole = (whole * tensor_scale).astype(np.float32).astype(np.float64)
        np.testing.assert_array_equal(whole, reference.block_scales(amax, row, tensor_scale))
    np.testing.assert_array_equal(given.get(), x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [row.name for row in formats()])
def test_equal_to_the_reference(name: str, dtype: Any, device: Device) -> None:
    form = get_format(name)
    with np.errstate(over="ignore", under="ignore"):
        x = inputs().astype(dtype)[:, :1027]
    for overflow, rounding, scale_rounding in options(form):
        row, numbers = form.encode_row(overflow=overflow, rounding=rounding, scale_rounding=scale_rounding)
        scales = (*SCALES, form.tensor_scale(3e38)) if form.scale in ("tensor", "e4m3") else (1.0,)
        for tensor_scale in scales[:: 1 if rounding == "half-even" else 4]:
            same(device, x, row, numbers, tensor_scale)


@pytest.mark.parametrize("name", ["mxint8", "nf4"])
@pytest.mark.parametrize("tensor_scale", [1.0, 0.3, 2.0])
def test_elements_under_one_scale(name: str, tensor_scale: float, device: Device) -> None:
    same(device, inputs(), *element_format(ELEMENTS[name]).encode_row(), tensor_scale)


@pytest.mark.parametrize("block", [None, 1, 4, 7, 8, 64, 100, 128, 256])
@pytest.mark.parametrize("name", ["mxfp4", "nvfp4", "nf4", "e4m3fn"])
def test_lengths_and_blocks(
    name: str, block: int | None, device: Device, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that end inside, at the end and beyond blocks, vectors and warps; pieces of host arrays."""
    form = get_format(name) if block is None or name == "e4m3fn" else get_format(name, block=block)
    row, numbers = form.encode_row()
    for length in (0, 1, 7, 32, 33, 128, 129, 260):
        for piece in (64, 1 << 20):
            monkeypatch.setattr(kernels, "PIECE", piece)
            same(device, rng.standard_normal((3, length)).astype(np.float32), row, numbers, 0.01)
