"""ONNX and TensorFlow Lite: constants, their own quantization, external data; real models where they are at hand."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qengine.exceptions import DTypeError, InputFileError
from qengine.models import source as source_module
from qengine.models.tensors import TensorSource, open_tensors
from tests.models.files import Lite, lite_file, onnx_file, onnx_model, tflite_bytes


def by_name(path: Path) -> dict[str, TensorSource]:
    return {source.name: source for source in open_tensors(path)}


def lite(tmp_path: Path, *tensors: Lite) -> list[TensorSource]:
    (tmp_path / "m.tflite").write_bytes(tflite_bytes(list(tensors)))
    return open_tensors(tmp_path / "m.tflite")


# --- TensorFlow Lite ------------------------------------------------------------------------------------------


def test_tflite_float_types(tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    values = np.array([[-1.5, 0.25], [3, -0.0]])
    types = {"FLOAT32": np.float32, "FLOAT16": np.float16, "BFLOAT16": ml_dtypes.bfloat16, "FLOAT64": np.float64}
    sources = lite(tmp_path, *(Lite(k, k, (2, 2), values.astype(t).tobytes()) for k, t in types.items()))
    assert [s.dtype for s in sources] == [name.lower() for name in types]
    for source in sources:
        np.testing.assert_array_equal(source.read(), values)
        assert source.note == ""


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("INT8", struct.pack("<6b", -128, -1, 0, 1, 2, 127), [-128, -1, 0, 1, 2, 127]),
        ("UINT8", bytes([0, 1, 2, 127, 128, 255]), [0, 1, 2, 127, 128, 255]),
        ("INT16", struct.pack("<6h", -32768, -1, 0, 1, 2, 32767), [-32768, -1, 0, 1, 2, 32767]),
        ("UINT16", struct.pack("<6H", 0, 1, 2, 3, 4, 65535), [0, 1, 2, 3, 4, 65535]),
        ("INT32", struct.pack("<6i", -(2**31), -1, 0, 1, 2, 2**31 - 1), [-(2**31), -1, 0, 1, 2, 2**31 - 1]),
        ("INT4", bytes([0x10, 0x87, 0xFE]), [0, 1, 7, -8, -2, -1]),
    ],
)
def test_tflite_codes_are_dequantized(kind: str, data: bytes, expected: list[int], tmp_path: Path) -> None:
    """The values are (q - z) * scale of the float32 scale, in rational numbers; the rules of broadcasting by hand."""
    scales = [float(np.float32(x)) for x in (0.1, 3e-5, 7.3)]
    plain, tensor, channel, shared_zero = lite(
        tmp_path,
        Lite("plain", kind, (2, 3), data),
        Lite("tensor", kind, (2, 3), data, scales[:1], [-3]),
        Lite("channel", kind, (2, 3), data, scales, [0, 5, -7], 1),
        Lite("shared zero", kind, (3, 2), data, scales, [2], 0),
    )
    cases = [
        (plain, [(1.0, 0)] * 6),
        (tensor, [(scales[0], -3)] * 6),
        (channel, [(scales[k % 3], (0, 5, -7)[k % 3]) for k in range(6)]),
        (shared_zero, [(scales[k // 2], 2) for k in range(6)]),
    ]
    for source, parameters in cases:
        exact = [float((q - z) * Fraction(s)) for q, (s, z) in zip(expected, parameters, strict=True)]
        for elements in (1, 2, 3, 4, 5, 100):
            pieces = list(source.chunks(elements))
            assert all(piece.dtype == np.float64 and piece.size <= elements for piece in pieces)
            assert np.concatenate(pieces).tolist() == exact
        assert source.read().shape == source.shape
    low = kind.lower()
    assert [s.dtype for s, _ in cases] == [low] * 4
    assert plain.note == ""
    assert tensor.note == f"{low}, dequantized per tensor (scale 0.100000001, zero point -3)"
    assert channel.note == f"{low}, dequantized per channel (axis 1, 3 scales)"


def test_tflite_int4_of_odd_length(tmp_path: Path) -> None:
    (source,) = lite(tmp_path, Lite("w", "INT4", (3,), bytes([0x9F, 0x07]), [0.5], [1]))
    assert source.read().tolist() == [-1.0, -4.0, 3.0]
    assert [piece.tolist() for piece in source.chunks(2)] == [[-1.0, -4.0], [3.0]]


def test_tflite_bias_with_the_axis_of_its_weights(tmp_path: Path) -> None:
    (source,) = lite(tmp_path, Lite("b", "INT32", (2,), struct.pack("<2i", 3, 4), [0.5, 2], [0, 0], 3))
    assert source.read().tolist() == [1.5, 8.0]


def test_tflite_tensors_that_are_refused(tmp_path: Path) -> None:
    flags, words, sparse, good, again, unnamed = lite(
        tmp_path,
        Lite("flags", "BOOL", (2,), b"\0\1"),
        Lite("words", "STRING", (1,), b"\1\0\0\0"),
        Lite("sparse", "FLOAT32", (100,), b"\1\0\0\0", sparse=True),
        Lite("w", "FLOAT32", (1,), struct.pack("<f", 5)),
        Lite("w", "FLOAT32", (1,), struct.pack("<f", 6)),
        Lite("", "FLOAT32", (1,), struct.pack("<f", 7)),
    )
    for source, part in ((flags, "BOOL is not read"), (words, "STRING is not read"), (sparse, "sparse")):
        with pytest.raises(DTypeError, match=part):
            source.read()
    assert [(s.name, s.read().tolist()) for s in (good, again, unnamed)] == [
        ("w", [5]),
        ("w#2", [6]),
        ("tensor_5", [7]),
    ]


@pytest.mark.parametrize(
    ("tensor", "part"),
    [
        (Lite("w", "FLOAT32", (10**6, 10**6), bytes(12)), r"4000000000000 bytes; its buffer has 12"),
        (Lite("w", "FLOAT32", (-3,), bytes(12)), "shape"),
        (Lite("w", "INT8", (3,), bytes(3), [1, 2], [0, 0]), "2 scales do not fit axis 0"),
        (Lite("w", "INT8", (1, 3), bytes(3), [1, 2, 3], [0, 0, 0], 2), "3 scales do not fit axis 2"),
        (Lite("w", "INT8", (3,), bytes(3), [1, 2, 3], [0, 0]), "3 scales need as many zero points, or one; got 2"),
        (Lite("w", "INT8", (3,), bytes(3), [float("inf")], [0]), "scales must be finite; got inf"),
        (Lite("x", "INT8", (3,), None), "no tensor with values"),
    ],
)
def test_damaged_tflite(tensor: Lite, part: str, tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=part):
        lite(tmp_path, tensor)


def test_something_else_than_tflite(tmp_path: Path) -> None:
    pytest.importorskip("tflite")
    (tmp_path / "m.tflite").write_bytes(b"\x93NUMPY something")
    with pytest.raises(InputFileError, match=r"bytes 4 to 8 must be b'TFL3'; got b'PY"):
        open_tensors(tmp_path / "m.tflite")


@pytest.mark.parametrize("name", ["tf2_mobilenet_v2_1.0_224_ptq", "mobilenet_v2_1.0_224_quant", "person_detect"])
def test_real_models_against_the_flatbuffer(name: str, shared: Path) -> None:
    """Every constant tensor, read again with struct at the places that the schema's vtables give."""
    pytest.importorskip("tflite")
    path = shared / "models" / f"{name}.tflite"
    if not path.exists():
        pytest.skip(f"no {path}")
    raw = path.read_bytes()
    sources = open_tensors(path)
    expected = list(tensors_by_struct(raw))
    assert [s.name for s in sources] == [t["name"] for t in expected]
    assert len(sources) > 50
    for source, t in zip(sources, expected, strict=True):
        assert source.shape == t["shape"]
        codes = np.frombuffer(t["data"], t["dtype"]).astype(np.float64).reshape(t["shape"])
        scale, zero = np.array(t["scale"] or [1.0]), np.array(t["zero_point"] or [0])
        if scale.size > 1:
            axis = t["axis"] if codes.ndim > 1 else 0
            view = [scale.size if k == axis else 1 for k in range(codes.ndim)]
            scale, zero = scale.reshape(view), zero.reshape(view)
        np.testing.assert_array_equal(source.read(), (codes - zero) * scale)
        np.testing.assert_array_equal(np.concatenate(list(source.chunks(1009))), source.read().ravel())


def tensors_by_struct(raw: bytes) -> Any:
    """Yield the constant tensors of a model, by the flatbuffer format and the field numbers of schema.fbs."""

    def u32(at: int) -> int:
        return int(struct.unpack_from("<I", raw, at)[0])

    def slot(table: int, number: int) -> int:
        vtable = table - struct.unpack_from("<i", raw, table)[0]
        inside = 4 + 2 * number < struct.unpack_from("<H", raw, vtable)[0]
        offset = struct.unpack_from("<H", raw, vtable + 4 + 2 * number)[0] if inside else 0
        return table + offset if offset else 0

    def vector(table: int, number: int, form: str) -> list[Any]:
        at = slot(table, number)
        if not at:
            return []
        at += u32(at)
        return list(struct.unpack_from(f"<{u32(at)}{form}", raw, at + 4))

    def tables(table: int, number: int) -> list[int]:
        at = slot(table, number)
        at += u32(at)
        return [place + u32(place) for place in range(at + 4, at + 4 + 4 * u32(at), 4)]

    model = u32(0)
    buffers = [bytes(vector(buffer, 0, "B")) for buffer in tables(model, 4)]
    for graph in tables(model, 2):
        for tensor in tables(graph, 0):
            place = slot(tensor, 2)
            data = buffers[u32(place) if place else 0]
            if not data:
                continue
            kind = slot(tensor, 1)
            text = slot(tensor, 3)
            text += u32(text)
            q = slot(tensor, 4)
            q = q + u32(q) if q else 0
            axis = slot(q, 6) if q else 0
            yield {
                "name": raw[text + 4 : text + 4 + u32(text)].decode(),
                "shape": tuple(vector(tensor, 0, "i")),
                "dtype": {0: "<f4", 2: "<i4", 3: "u1", 9: "i1"}[raw[kind] if kind else 0],
                "data": data,
                "scale": vector(q, 2, "f") if q else [],
                "zero_point": vector(q, 3, "q") if q else [],
                "axis": u32(axis) if axis else 0,
            }


# --- ONNX -----------------------------------------------------------------------------------------------------


@pytest.fixture
def onnx() -> Any:
    return pytest.importorskip("onnx")


def save(tmp_path: Path, model: Any) -> Path:
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    return tmp_path / "m.onnx"


#: Types of ONNX that NumPy lacks, by their names in ml_dtypes.
SMALL = {
    "BFLOAT16": "bfloat16", "INT4": "int4", "UINT4": "uint4", "FLOAT8E4M3FN": "float8_e4m3fn",
    "FLOAT8E5M2": "float8_e5m2", "FLOAT8E4M3FNUZ": "float8_e4m3fnuz", "FLOAT8E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip


def raw_bytes(array: np.ndarray, kind: str) -> bytes:
    """Little-endian; of 4-bit types two to a byte, the first one in the low half."""
    if kind not in ("INT4", "UINT4"):
        return array.tobytes()
    codes = np.append(array.ravel().astype(np.int8).view(np.uint8) & 15, np.zeros(array.size % 2, np.uint8))
    return (codes[::2] | codes[1::2] << 4).tobytes()


@pytest.mark.parametrize("raw", [True, False])
def test_onnx_types_against_its_own_reader(raw: bool, onnx: Any, tmp_path: Path, rng: np.random.Generator) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kinds = ["DOUBLE", "FLOAT", "FLOAT16", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"]
    kinds += SMALL
    tensors, expected = [], {}
    for kind in kinds:
        low = -8 if "INT" in kind and kind[0] != "U" else 0
        values = rng.integers(low, 8, (3, 5)) if "INT" in kind else rng.normal(size=(3, 5)) * 4
        number = getattr(onnx.TensorProto, kind)
        own = onnx.helper.tensor_dtype_to_np_dtype(number)
        array = values.astype(getattr(ml_dtypes, SMALL[kind]) if kind in SMALL else own)
        data: Any = raw_bytes(array, kind) if raw else array.ravel()
        tensors.append(onnx.helper.make_tensor(kind, number, (3, 5), data, raw=raw))
        read = onnx.numpy_helper.to_array(tensors[-1])
        # onnx 1.18 gives the bits of types that NumPy lacks, as records of one field; later ones give values.
        expected[kind] = (read.view(array.dtype) if read.dtype.names else read).astype(np.float64)
        np.testing.assert_array_equal(expected[kind], array.astype(np.float64))
    sources = by_name(save(tmp_path, onnx_model(tensors)))
    assert list(sources) == kinds
    for kind, values in expected.items():
        np.testing.assert_array_equal(sources[kind].read(), values)
        np.testing.assert_array_equal(np.concatenate(list(sources[kind].chunks(7))), values.ravel())


@pytest.mark.parametrize(
    ("scale_shape", "options"),
    [
        ((), {}),
        ((1,), {}),
        ((4,), {}),
        ((3,), {"axis": 0}),
        ((6,), {"axis": -1}),
        ((3, 2, 6), {"axis": 1, "block_size": 2}),
        ((3, 4, 2), {"axis": -1, "block_size": 4}),
    ],
)
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32"])
@pytest.mark.parametrize("with_zero", [True, False])
def test_onnx_dequantizes_as_its_reference_evaluator(
    scale_shape: tuple[int, ...],
    options: dict[str, int],
    dtype: str,
    with_zero: bool,
    onnx: Any,
    tmp_path: Path,
    rng: np.random.Generator,
) -> None:
    """Scales are powers of two, so that ONNX's float32 arithmetic is exact and has to agree to the last bit."""
    with_zero = with_zero and dtype != "int32"
    codes = rng.integers(0, 128, (3, 4, 6)).astype(dtype)
    scale = np.ldexp(1.0, rng.integers(-9, 4, scale_shape)).astype(np.float32)
    arrays = {"q": codes, "s": scale}
    if with_zero:
        arrays["z"] = rng.integers(0, 100, scale_shape).astype(dtype)
    node = onnx.helper.make_node("DequantizeLinear", list(arrays), ["r"], **options)
    model = onnx_model([onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items()], [node])
    model.graph.output.append(onnx.helper.make_tensor_value_info("r", onnx.TensorProto.FLOAT, None))
    sources = by_name(save(tmp_path, model))
    evaluator = pytest.importorskip("onnx.reference").ReferenceEvaluator(model)
    np.testing.assert_array_equal(sources["q"].read(), evaluator.run(None, {})[0])
    assert sources["q"].note.startswith(f"{dtype}, dequantized ")
    assert sources["s"].note == "scale of a DequantizeLinear"


def test_onnx_codes_that_stay_codes(onnx: Any, tmp_path: Path) -> None:
    make, node = onnx.numpy_helper.from_array, onnx.helper.make_node
    arrays = {"q": np.arange(3, dtype=np.int8), "p": np.arange(3, dtype=np.int8), "u": np.arange(3, dtype=np.uint8)}
    model = onnx_model(
        [*(make(a, n) for n, a in arrays.items()), make(np.float32(2), "s"), make(np.float32(3), "t")],
        [
            node("DequantizeLinear", ["q", "s"], ["a"]),
            node("DequantizeLinear", ["q", "t"], ["b"]),
            node("DequantizeLinear", ["p", "computed"], ["c"]),
        ],
    )
    sources = by_name(save(tmp_path, model))
    assert all(sources[name].read().tolist() == [0, 1, 2] for name in arrays)
    assert "differently" in sources["q"].note
    assert "computed" in sources["p"].note
    assert sources["u"].note == ""


def test_onnx_constants_and_inner_graphs(onnx: Any, tmp_path: Path) -> None:
    make, node = onnx.numpy_helper.from_array, onnx.helper.make_node
    inner = onnx.helper.make_graph([], "inner", [], [], [make(np.ones(2, np.float32), "w")])
    model = onnx_model(
        [make(np.zeros(3, np.float32), "w"), make(np.array([True]), "flag"), make(np.zeros((0, 4)), "empty")],
        [
            node("Constant", [], ["c"], value=make(np.full(4, 7.0), "")),
            node("If", ["flag"], [], then_branch=inner, else_branch=inner),
        ],
    )
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(make(np.ones(1, np.float32), "sp"))
    sparse.dims.extend([10])
    sources = by_name(save(tmp_path, model))
    assert {name: s.size for name, s in sources.items()} == {
        "w": 3, "flag": 1, "empty": 0, "c": 4, "w#2": 2, "w#3": 2, "sp": 10,
    }  # fmt: skip
    assert sources["c"].read().tolist() == [7.0] * 4
    assert list(sources["empty"].chunks()) == []
    assert sources["empty"].read().shape == (0, 4)
    for name in ("flag", "sp"):
        with pytest.raises(DTypeError, match="not read"):
            sources[name].read()


def external(onnx: Any, folder: Path, **entries: object) -> Path:
    tensor = onnx.TensorProto(
        name="w", data_type=onnx.TensorProto.FLOAT, dims=[3], data_location=onnx.TensorProto.EXTERNAL
    )
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return save(folder, onnx_model([tensor]))


def test_onnx_external_data(onnx: Any, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for place in ("w.bin", "sub/w.bin"):
        (tmp_path / place).write_bytes(bytes(8) + struct.pack("<3f", 1, 2, 3) + bytes(4))
        for entries in ({"offset": 8}, {"offset": 8, "length": 12}):
            (source,) = open_tensors(external(onnx, tmp_path, location=place, **entries))
            assert source.read().tolist() == [1, 2, 3]
    assert open_tensors(external(onnx, tmp_path, location="w.bin"))[0].read().tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("entries", "part"),
    [
        ({"location": "../w.bin"}, "in the model's folder"),
        ({"location": "sub/../../w.bin"}, "in the model's folder"),
        ({"location": "/etc/hostname"}, "in the model's folder"),
        ({"location": "link.bin"}, "in the model's folder"),
        ({"location": ""}, "in the model's folder"),
        ({"location": "."}, "in the model's folder"),
        ({}, "in the model's folder"),
        ({"location": "missing.bin"}, "No such file"),
        ({"location": "a\0b"}, "damaged|NUL"),
        ({"location": "w.bin", "offset": 8}, r"12 bytes are required; .* offset 8 .* a file of 16 bytes"),
        ({"location": "w.bin", "offset": -4}, "offset -4"),
        ({"location": "w.bin", "length": 8}, "length 8"),
        ({"location": "w.bin", "length": 10**12}, "length 1000000000000"),
        ({"location": "w.bin", "offset": "x"}, "damaged"),
    ],
)
def test_onnx_external_data_that_is_refused(entries: dict[str, object], part: str, onnx: Any, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(16))
    (folder / "w.bin").write_bytes(bytes(16))
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    with pytest.raises(InputFileError, match=part):
        open_tensors(external(onnx, folder, **entries))


def test_damaged_onnx(onnx: Any, tmp_path: Path) -> None:
    make, node = onnx.numpy_helper.from_array, onnx.helper.make_node
    q, s = make(np.arange(6, dtype=np.int8).reshape(2, 3), "q"), make(np.ones(2, np.float32), "s")
    huge = onnx.TensorProto(name="w", data_type=1, dims=[10**12], raw_data=bytes(8))
    wide = onnx.TensorProto(name="w", data_type=onnx.TensorProto.INT8, dims=[2], int32_data=[1, 128])
    cases = [
        (onnx_model([huge]), r"\(1000000000000,\) of FLOAT is 4000000000000 bytes; the model holds 8"),
        (onnx_model([wide]), "128 at index 1 of int32_data is no int8"),
        (onnx_model([onnx.TensorProto(name="w", data_type=1, dims=[-1])]), "shape"),
        (onnx_model([q, s], [node("DequantizeLinear", ["q", "s"], ["r"], axis=1)]), r"\(2,\) do not fit axis 1"),
        (onnx_model([q, s], [node("DequantizeLinear", ["q", "s"], ["r"], axis=9)]), r"do not fit axis 9"),
        (
            onnx_model([q, s], [node("DequantizeLinear", ["q", "s"], ["r"], axis=0, block_size=-1)]),
            r"do not fit axis 0 \(block size -1\)",
        ),
        (
            onnx_model(
                [q, make(np.array([1, np.nan], np.float32), "s")], [node("DequantizeLinear", ["q", "s"], ["r"])]
            ),
            "finite; got nan",
        ),
        (
            onnx_model([q, s, make(np.int8(0), "z")], [node("DequantizeLinear", ["q", "s", "z"], ["r"], axis=0)]),
            r"its scale has shape \(2,\), its zero point \(\)",
        ),
        (onnx_model([]), "no tensor with values"),
    ]
    for model, part in cases:
        with pytest.raises(InputFileError, match=part):
            open_tensors(save(tmp_path, model))
    (tmp_path / "m.onnx").write_bytes(b"this is no model")
    with pytest.raises(InputFileError, match=r"m\.onnx: the file is damaged"):
        open_tensors(tmp_path / "m.onnx")


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [onnx_file(tmp_path), lite_file(tmp_path)]

    def missing(package: str) -> Any:
        raise ModuleNotFoundError(f"No module named {package!r}")

    monkeypatch.setattr(source_module.importlib, "import_module", missing)
    for path in files:
        with pytest.raises(InputFileError, match=r"pip install 'qengine-numerics\[models\]'"):
            open_tensors(path)
