"""Recordings of runtimes: what their names mean, and the committed part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import qengine as qe

DATA = Path(__file__).parents[1] / "data"
COMMITTED = DATA / "golden_runtimes.npz"
Columns = dict[str, npt.NDArray[Any]]
TAGS = {
    "litert230": ("litert", "2.3.0", "x86-64"),
    "litert230arm": ("litert", "2.3.0", "aarch64"),
    "ort1311": ("onnxruntime", "1.31.1", "x86-64"),
    "ort1311arm": ("onnxruntime", "1.31.1", "aarch64"),
    "torch213": ("torch", "2.13.0", "x86-64"),
}
#: Operators as names of recordings spell them, longer ones first where one begins another.
OPS = (
    "CONV2D", "CONV", "FC", "DWCONV", "DW", "ADD", "SUB", "MUL", "MEAN", "AVERAGE_POOL_2D", "QUANTIZE", "DEQUANTIZE",
    "QLinearConv", "QLinearMatMul", "QLinearAdd", "QLinearMul", "QuantizeLinear", "DequantizeLinear",
    "quantize_per_tensor", "fake_quantize_per_tensor", "dequantize", "quantized_linear",
)  # fmt: skip
PATHS = ("xnnpack", "opt", "ref")


class Call(NamedTuple):
    """Which profile a recording is of."""

    runtime: str
    op: str
    path: str
    version: str
    isa: str
    variant: str

    def emulate(self, columns: Mapping[str, Any], **options: Any) -> npt.NDArray[Any]:
        return qe.emulate(*self[:3], version=self.version, isa=self.isa, variant=self.variant, **options, **columns)

    def profile(self) -> Any:
        return qe.get_profile(*self[:3], version=self.version, isa=self.isa, variant=self.variant)


def call_of(name: str) -> Call:
    """Read the name of a recording: tag, operator, variant and path, in the order of its runtime."""
    tag, _, rest = name.partition("_")
    runtime, version, isa = TAGS[tag]
    issue = rest.removeprefix("issue102943_")
    op = next(op for op in OPS if issue == op or issue.startswith(f"{op}_"))
    middle = issue[len(op) + 1 :]
    path, variant = "cpu", middle
    if runtime == "litert":
        variant, _, path = middle.rpartition("_")
    elif op == "quantized_linear":
        path, _, variant = middle.partition("_")
    return Call(runtime, op, path, version, isa, "perchannel" if issue != rest else variant)


def recordings_of(path: Path) -> Iterator[tuple[str, Columns]]:
    """Yield (name, columns) of a full file: one, or one a path where it holds three outputs."""
    with np.load(path) as archive:
        columns = {name: archive[name] for name in archive.files}
    if "output" in columns:
        yield path.stem, columns
        return
    shared = {name: column for name, column in columns.items() if not name.startswith("output")}
    for resolver in PATHS:
        yield f"{path.stem}_{resolver}", {**shared, "output": columns[f"output_{resolver}"]}


def committed_part() -> dict[str, Columns]:
    """Return the committed rows by recording: those of this room and of the two rooms below, which share theirs."""
    parts: dict[str, Columns] = {}
    for file in ("golden_requantize.npz", "golden_affine.npz", COMMITTED.name):
        with np.load(DATA / file) as archive:
            arrays = {name: archive[name] for name in archive.files}
        for k, name in enumerate(arrays["names"]):
            rows = _rows(str(name), {n: a[arrays["source"] == k] for n, a in arrays.items() if n != "names"})
            if rows is not None:
                parts[str(name)] = rows
    return parts


def _rows(name: str, arrays: Columns) -> Columns | None:
    """Return the columns that the recording's profile takes, integers as such, and the output; None if they lack."""
    wanted = call_of(name).profile().columns
    if "scale" in arrays:  # golden_affine.npz: one scale and zero point, whichever side they belong to
        side = "in" if "in_scale" in wanted else "out"
        arrays = {**arrays, f"{side}_scale": arrays["scale"], f"{side}_zp": arrays["zero_point"]}
    real = {"output", "in_scale", "w_scale", "out_scale", "a_scale", "b_scale"}
    if wanted == ("input", "out_scale", "out_zp"):
        real.add("input")
    if not set(wanted) <= set(arrays):  # QUANTIZE as an accumulator's requantization, in golden_requantize.npz
        return None
    columns = {column: arrays[column] for column in (*wanted, "output")}
    return {column: values if column in real else values.astype(np.int64) for column, values in columns.items()}


def full_recordings(folder: Path, name: str) -> Columns:
    """Return the columns of one recording out of its full file."""
    stem = name.rpartition("_")[0] if "issue102943" in name else name
    return dict(recordings_of(folder / "golden" / f"{stem}.npz"))[name]
