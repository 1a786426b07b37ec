"""Audits against the real interpreter: an input that attains a witness gives the two codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import qengine as qe
from tests.runtimes import lite


@pytest.mark.parametrize("op", ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"])
def test_a_witness_happens_in_the_real_interpreter(op: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """Inputs that attain the witness give the codes that the audit says, on each path."""
    lite.litert()
    channels, inputs = 16, 1 if op == "DEPTHWISE_CONV_2D" else 24
    w_scale = rng.uniform(0.004, 0.02, channels).astype(np.float32)
    weights = np.zeros((channels, inputs), np.int8)
    weights[:] = rng.integers(30, 127, (channels, inputs))
    weights[:, -1] = 1  # the last input reaches every accumulator between the others' steps
    bias = rng.integers(-500, 500, channels, np.int32)
    last = op == "DEPTHWISE_CONV_2D"
    shape = {"CONV_2D": (channels, 1, 1, inputs), "DEPTHWISE_CONV_2D": (1, 1, 1, channels)}.get(op, (channels, inputs))
    image = (1, inputs) if op == "FULLY_CONNECTED" else (1, 1, 1, channels if last else inputs)
    out = (1, channels) if op == "FULLY_CONNECTED" else (1, 1, 1, channels)
    size = 0.5 if last else 0.05
    tensors = [
        lite.Tensor(image, "int8", size, 3),
        lite.Tensor(shape, "int8", w_scale, 0, weights.T if last else weights, 3 if last else 0),
        lite.Tensor((channels,), "int32", w_scale * np.float32(size), 0, bias),
    ]
    tables = {"CONV_2D": "Conv2DOptions", "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions"}
    options: dict[str, Any] = {"table": tables.get(op, "FullyConnectedOptions"), "version": 5}
    if op != "FULLY_CONNECTED":
        options |= {"strideH": 1, "strideW": 1, "padding": 1, "version": 3}
    if last:
        options |= {"depthMultiplier": 1}
    output = lite.Tensor(out, "int8", float(size * np.median(w_scale)) * (3.3 if last else 151.7), 9)
    content = lite.build(op, tensors, [output], options)
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    result = qe.audit(path)
    (layer,) = result.layers
    checked = 0
    for pair in layer.pairs:
        for channel in np.flatnonzero(pair.by_channel)[:4].tolist():
            acc = int(pair.least_by_channel[channel])
            codes = attaining(weights[channel].astype(int), acc - int(bias[channel]), 3)
            x = np.full(image, 3, np.int8)
            if last:
                x[..., channel] = codes[0]
            else:
                x[...] = np.array(codes, np.int8).reshape(image)
            given = {"acc": acc, "in_scale": np.float32(size), "w_scale": w_scale[channel], "zero_point": 9}
            found = []
            for name in pair.sides:
                kernels = name.partition(":")[2]
                (y,) = lite.run(content, kernels, x)
                found.append(int(y.reshape(-1)[channel]))
                said = qe.emulate(
                    "litert", op, kernels, variant="perchannel", out_scale=np.float32(output.scale), **given
                )
                assert found[-1] == int(said)
            assert found[0] != found[1]
            if pair.witness is not None and pair.witness.channel == channel:
                assert pair.witness.outputs == tuple(found)
            checked += 1
    assert checked > 3


def attaining(weights: npt.NDArray[np.int_], target: int, zero: int) -> list[int]:
    """Return codes whose products with the weights (the last of which is 1) add up to a target."""
    codes = []
    for k, w in enumerate(weights.tolist()):
        rest = int(weights[k + 1 :].sum())
        # Leave what the inputs that follow can reach at their middle.
        step = round((target - rest * (0.0 - zero)) / w) if k + 1 < len(weights) else target // w
        code = min(max(step + zero, -128), 127)
        codes.append(code)
        target -= w * (code - zero)
    if target:
        pytest.skip(f"no input reaches this accumulator: {target} is left")
    return codes
