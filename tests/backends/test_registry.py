"""The one rule that chooses a back end, and what a missing one says."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import qengine as qe
from qengine import backends

QUARTER = qe.QuantizedMultiplier(1 << 30, -1)


class OnDevice:
    """What a CuPy array shows of itself, without CuPy."""

    shape = (4,)
    dtype = np.dtype(np.int32)
    __cuda_array_interface__ = {"shape": (4,), "typestr": "<i4", "data": (0, True), "version": 3}  # noqa: RUF012

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise AssertionError("a hidden copy from the device")

    __dlpack__ = __array__


class OnDeviceByDLPack:
    """An array that shows its device by DLPack alone."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, **options: Any) -> Any:
        raise AssertionError("a hidden copy from the device")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the back ends that served, all of them pretended to be there."""
    names: list[str] = []
    true_load = backends.load.__wrapped__ if hasattr(backends.load, "__wrapped__") else backends.load

    def load(name: str) -> Any:
        def requantize(acc: Any, form: Any, epilogue: Any, out: Any) -> None:
            names.append(name)
            true_load("reference" if name == "cuda" else name).requantize(acc, form, epilogue, out)

        return SimpleNamespace(requantize=requantize)

    monkeypatch.delenv("QENGINE_BACKEND", raising=False)
    monkeypatch.setattr(backends, "load", load)
    monkeypatch.setattr(backends, "unavailable", lambda name: backends._row(name) and None)
    return names


def call(**options: Any) -> None:
    qe.requantize([2, -2], QUARTER, **options)


def test_precedence(served: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    call()
    monkeypatch.setenv("QENGINE_BACKEND", "reference")
    call()
    with qe.use_backend("cuda"):
        call()
        call(backend="cpu")
        with qe.use_backend("cpu"):
            call()
        call()
    call()
    monkeypatch.setenv("QENGINE_BACKEND", "")
    call()
    assert served == ["cpu", "reference", "cuda", "cpu", "cpu", "cuda", "reference", "cpu"]


@pytest.mark.parametrize("array", [OnDevice(), OnDeviceByDLPack()], ids=["cuda interface", "DLPack"])
def test_device_of_the_array(array: Any, served: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert backends.choose(None, array) == "cuda"
    assert backends.choose(None, np.zeros(3)) == "cpu"
    assert backends.choose("cuda", array) == "cuda"
    text = f"back end 'cpu' was asked for, but an array .{type(array).__name__}. lives on a CUDA device; copy it"
    with pytest.raises(qe.BackendError, match=text):
        backends.choose("cpu", array)
    monkeypatch.setenv("QENGINE_BACKEND", "reference")
    with pytest.raises(qe.BackendError, match="'reference' was asked for"):
        backends.choose(None, array)


@pytest.mark.parametrize("array", [OnDevice(), OnDeviceByDLPack()], ids=["cuda interface", "DLPack"])
def test_device_array_is_never_copied_to_the_host(array: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QENGINE_BACKEND", raising=False)
    monkeypatch.setattr(
        backends,
        "unavailable",
        lambda name: "back end 'cuda' needs cupy: install it." if name == "cuda" else None,
    )
    with pytest.raises(qe.BackendError, match="'cuda' needs cupy"):
        qe.requantize(array, QUARTER)
    with pytest.raises(qe.BackendError, match="copy it to the host first"):
        qe.requantize(array, QUARTER, backend="cpu")


def test_host_dlpack_is_not_a_device() -> None:
    assert not backends.on_device(np.zeros(3))
    assert not backends.on_device([1, 2])
    assert backends.on_device(OnDevice())


def test_a_missing_back_end_is_an_error_not_a_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    find = backends.importlib.util.find_spec
    monkeypatch.setattr(
        backends.importlib.util, "find_spec", lambda name, *a: None if name == "cupy" else find(name, *a)
    )
    backends.load.cache_clear()
    try:
        reason = backends.unavailable("cuda")
        assert reason == (
            "back end 'cuda' needs cupy: pip install 'qengine-numerics[cuda12]' or 'qengine-numerics[cuda13]', "
            "by the CUDA version of the driver."
        )
        assert backends.unavailable("cpu") is None
        for ask in (
            lambda: call(backend="cuda"),
            lambda: qe.use_backend("cuda"),
            lambda: backends.load("cuda"),
        ):
            with pytest.raises(qe.BackendError) as caught:
                ask()
            assert str(caught.value) == reason
        monkeypatch.setenv("QENGINE_BACKEND", "cuda")
        with pytest.raises(qe.BackendError):
            call()
        call(backend="cpu")
    finally:
        backends.load.cache_clear()


class NoDevice(SimpleNamespace):
    """CuPy where there is no driver, no device, or no compiler."""

    class CUDARuntimeError(RuntimeError):
        pass

    def __init__(self, count: int | None, compiler: Exception | None = None) -> None:
        def get() -> int:
            if count is None:
                raise self.CUDARuntimeError("cudaErrorInsufficientDriver: ...")
            return count

        def version() -> tuple[int, int]:
            if compiler is not None:
                raise compiler
            return 12, 9

        runtime = SimpleNamespace(getDeviceCount=get, CUDARuntimeError=self.CUDARuntimeError)
        super().__init__(cuda=SimpleNamespace(runtime=runtime, nvrtc=SimpleNamespace(getVersion=version)))


@pytest.mark.parametrize(
    ("count", "found"),
    [(None, "finds no CUDA device (cudaErrorInsufficientDriver: ...)"), (0, "finds no CUDA device")],
)
def test_cupy_without_a_device(count: int | None, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cupy_is(NoDevice(count), monkeypatch)
    assert backends.unavailable("cuda") == (
        f"back end 'cuda' needs a CUDA device and its driver: CuPy is installed, but {found}; run it where nvidia-smi "
        "lists one, or install the extra that fits the driver (cuda12, cuda13)."
    )
    cupy_is(NoDevice(2), monkeypatch)
    assert backends.unavailable("cuda") is None


@pytest.mark.parametrize("error", [RuntimeError("Failure finding libnvrtc:\n  no such file"), OSError("no symbol")])
def test_cupy_without_its_compiler(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device is of no use where nothing compiles for it: known before the first launch."""
    cupy_is(NoDevice(1, error), monkeypatch)
    backends.load.cache_clear()
    with pytest.raises(qe.BackendError) as caught:
        backends.load("cuda")
    assert str(caught.value) == (
        "back end 'cuda' needs NVRTC, which compiles its kernels: CuPy does not load it ("
        f"{' '.join(str(error).split())}); pip install 'cupy-cuda12x[ctk]' or 'cupy-cuda13x[ctk]', by the CUDA version "
        "of the driver, as the extras cuda12 and cuda13 do."
    )


def cupy_is(package: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a package in CuPy's place."""
    from qengine.kernels.cuda import load

    find = importlib.util.find_spec
    monkeypatch.setattr(
        backends.importlib.util, "find_spec", lambda name, *a: find("numpy") if name == "cupy" else find(name, *a)
    )
    monkeypatch.setattr(load, "array_module", lambda: package)


def test_cupy_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    from qengine.kernels.cuda import load

    def fail() -> Any:
        raise ImportError("libcuda is broken")

    monkeypatch.setattr(load, "array_module", fail)
    assert load.problem() == (
        "CuPy, which does not load (libcuda is broken): reinstall the extra that fits the driver (cuda12, cuda13)"
    )


def without_a_device(name: str) -> str:
    return f"back end {name!r} is not here: get one."


@pytest.mark.parametrize("x", [(-1.0, 1.0), [-1.0, 1.0]], ids=["range", "samples"])
def test_a_range_needs_the_back_end_that_it_names(x: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No kernel runs for a given range; a name is checked all the same."""
    monkeypatch.setattr(backends, "unavailable", without_a_device)
    backends.load.cache_clear()
    monkeypatch.setattr(backends, "_serving", set())
    with pytest.raises(qe.BackendError, match="back end 'cuda' is not here: get one"):
        qe.choose_qparams(x, backend="cuda")
    with pytest.raises(qe.UnknownNameError, match="unknown back end 'gpu'"):
        qe.choose_qparams(x, backend="gpu")


# ---------------------------------------------------------------------------------------------------------
# Where an array lives, asked of packages that refuse to answer


class RecordsGradients:
    """A PyTorch tensor on a CUDA device that records gradients."""

    requires_grad = True

    @property
    def __cuda_array_interface__(self) -> Any:
        raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad.")

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, **options: Any) -> Any:
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")


class RecordsGradientsOnHost(RecordsGradients):
    """The same in the host's memory."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")


class OnNoKnownDevice:
    """An array whose device DLPack has no number for."""

    def __dlpack_device__(self) -> Any:
        raise ValueError("Unknown device type meta for Dlpack")


@pytest.mark.parametrize("kind", [RecordsGradients, RecordsGradientsOnHost])
def test_arrays_that_record_gradients(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    x, params = kind(), qe.QuantParams(0.5, 0, -128, 127)
    assert backends.on_device(x) == (kind is RecordsGradients)
    if kind is RecordsGradients:  # where there is a device: refused before the back end sees the array
        monkeypatch.setattr(backends, "load", lambda name: SimpleNamespace(calibration=lambda: None))
    for name, ask in (
        ("x", lambda: qe.quantize(x, params)),
        ("q", lambda: qe.dequantize(x, params)),
        ("acc", lambda: qe.requantize(x, QUARTER)),
        ("x", lambda: qe.error_report(x, params)),
        ("x", lambda: qe.choose_qparams(x)),
        ("batch", lambda: qe.Histogram().update(x)),
    ):
        with pytest.raises(qe.DTypeError) as caught:
            ask()
        assert str(caught.value) == f"{name} must not record gradients: codes have none. Detach it first: x.detach()."


def test_a_device_without_a_number() -> None:
    assert not backends.on_device(OnNoKnownDevice())

    class WithInterface(OnNoKnownDevice):
        __cuda_array_interface__ = OnDevice.__cuda_array_interface__

    assert backends.on_device(WithInterface())


def test_a_refused_interface_is_one() -> None:
    """Older packages have no DLPack: that the property raises still tells where the array is."""

    class OnlyInterface:
        @property
        def __cuda_array_interface__(self) -> Any:
            raise RuntimeError("not now")

    assert backends.on_device(OnlyInterface())
    assert not backends.read_only(OnlyInterface())


# ---------------------------------------------------------------------------------------------------------
# Numbers that are checked on the host


DEVICE_NUMBERS = [OnDevice(), OnDeviceByDLPack()]


@pytest.mark.parametrize("value", DEVICE_NUMBERS, ids=["cuda interface", "DLPack"])
def test_parameters_on_a_device_are_refused_by_name(value: Any) -> None:
    scales = {"input_scale": 0.5, "weight_scale": 0.25, "output_scale": 0.125}
    asked: list[tuple[str, Any]] = [
        ("multiplier", lambda: qe.requantize([1], value)),
        ("zero_point", lambda: qe.requantize([1], 0.5, zero_point=value)),
        ("multiplier value", lambda: qe.QuantizedMultiplier(value, 0)),
        ("scale", lambda: qe.QuantParams(value, 0, -128, 127)),
        ("zero_point", lambda: qe.QuantParams(0.5, value, -128, 127)),
        ("lo of the range", lambda: qe.choose_qparams((value, 1.0))),
        ("hi of the range", lambda: qe.choose_qparams((-1.0, value))),
        *(
            (name, lambda name=name: qe.requantize_scales([1], **(scales | {name: value}), scheme="single"))
            for name in scales
        ),
    ]
    for name, ask in asked:
        with pytest.raises(qe.DTypeError) as caught:
            ask()
        assert str(caught.value) == (
            f"{name} must be on the host, where it is checked; got {type(value).__name__} on a CUDA device: copy it "
            "first."
        )


class RefusesTheHost(OnDevice):
    """A CuPy array: it does not become NumPy's behind the caller's back."""

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")


@pytest.mark.parametrize(
    ("name", "ask"),
    [
        ("acc", lambda some: qe.requantize(some, QUARTER)),
        ("x", lambda some: qe.quantize(some, qe.QuantParams(0.5, 0, -128, 127))),
        ("x", lambda some: qe.error_report(some, qe.QuantParams(0.5, 0, -128, 127))),
        ("scale", lambda some: qe.QuantParams(some, 0, -128, 127, axis=0)),
        ("multiplier", lambda some: qe.requantize([1, 2], some, axis=0)),
        ("lo of the range", lambda some: qe.choose_qparams((some, [1.0, 1.0]), axis=0)),
    ],
)
def test_lists_of_device_arrays(name: str, ask: Any) -> None:
    with pytest.raises(qe.DTypeError) as caught:
        ask([RefusesTheHost(), RefusesTheHost()])
    text = str(caught.value)
    assert text.startswith(f"{name} must be an array of numbers; got list: ")
    assert text.endswith("is not allowed. Join the arrays where they are, or copy them to the host first.")


def test_missing_numba_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find = backends.importlib.util.find_spec
    monkeypatch.setattr(
        backends.importlib.util, "find_spec", lambda name, *a: None if name == "numba" else find(name, *a)
    )
    monkeypatch.setattr(backends, "_serving", set())
    backends.load.cache_clear()
    with pytest.raises(qe.BackendError, match=r"back end 'cpu' needs numba: pip install numba\."):
        call()


@pytest.mark.parametrize("name", ["gpu", "CPU", "numpy", "cudaa"])
def test_unknown_names(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"unknown back end '{name}'; "
    with pytest.raises(qe.UnknownNameError, match=text):
        call(backend=name)
    with pytest.raises(qe.UnknownNameError, match=text), qe.use_backend(name):
        pass
    monkeypatch.setenv("QENGINE_BACKEND", name)
    with pytest.raises(qe.UnknownNameError, match=text):
        call()


def test_unknown_name_suggests() -> None:
    with pytest.raises(qe.UnknownNameError, match="did you mean 'cuda'"):
        call(backend="cudaa")


def test_use_backend_ends_with_its_block_and_stays_in_its_thread(served: list[str]) -> None:
    def block() -> None:
        with qe.use_backend("reference"):
            call()
            other = threading.Thread(target=call)
            other.start()
            other.join()
            raise KeyError

    with pytest.raises(KeyError):
        block()
    call()
    assert served == ["reference", "cpu", "cpu"]


def test_reference_is_never_chosen_by_itself(served: list[str]) -> None:
    for acc in (1, [1, 2], np.arange(5), np.zeros((0,), np.int32)):
        qe.requantize(acc, QUARTER)
    assert set(served) <= {"cpu"}


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_is_light() -> None:
    heavy = ["numpy", "numba", "cupy", "llvmlite", "click", "rich", "hypothesis"]
    out = python(f"import sys, qengine; qengine.__version__; print([m for m in {heavy} if m in sys.modules])")
    assert out == "[]"


def test_reference_does_not_load_numba() -> None:
    code = (
        "import sys, qengine as qe;"
        "print(qe.requantize([2], qe.QuantizedMultiplier(1 << 30, -1), backend='reference'),"
        "[m for m in ('numba', 'cupy') if m in sys.modules])"
    )
    assert python(code) == "[1] []"


def test_every_public_name_loads() -> None:
    for name in qe.__all__:
        assert getattr(qe, name) is not None
    assert set(qe.__all__) <= set(dir(qe))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = qe.nonsense
