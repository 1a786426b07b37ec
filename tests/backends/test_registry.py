"""The one rule that chooses a back end, and what a missing one says."""

from __future__ import annotations

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
            lambda: qe.use_backend("cuda").__enter__(),
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
    """CuPy where there is no driver, or no device."""

    class CUDARuntimeError(RuntimeError):
        pass

    def __init__(self, count: int | None) -> None:
        def get() -> int:
            if count is None:
                raise self.CUDARuntimeError("cudaErrorInsufficientDriver: ...")
            return count

        runtime = SimpleNamespace(getDeviceCount=get, CUDARuntimeError=self.CUDARuntimeError)
        super().__init__(cuda=SimpleNamespace(runtime=runtime))


@pytest.mark.parametrize(
    ("count", "found"),
    [(None, "finds no CUDA device (cudaErrorInsufficientDriver: ...)"), (0, "finds no CUDA device")],
)
def test_cupy_without_a_device(count: int | None, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from qengine.kernels.cuda import load

    find = backends.importlib.util.find_spec
    monkeypatch.setattr(
        backends.importlib.util, "find_spec", lambda name, *a: find("numpy") if name == "cupy" else find(name, *a)
    )
    monkeypatch.setattr(load, "array_module", lambda: NoDevice(count))
    assert backends.unavailable("cuda") == (
        f"back end 'cuda' needs a CUDA device and its driver: CuPy is installed, but {found}; run it where nvidia-smi "
        "lists one."
    )
    monkeypatch.setattr(load, "array_module", lambda: NoDevice(2))
    assert backends.unavailable("cuda") is None


def test_cupy_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    from qengine.kernels.cuda import load

    def fail() -> Any:
        raise ImportError("libcuda is broken")

    monkeypatch.setattr(load, "array_module", fail)
    assert load.problem() == "CuPy does not load (libcuda is broken)"


def test_missing_numba_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find = backends.importlib.util.find_spec
    monkeypatch.setattr(
        backends.importlib.util, "find_spec", lambda name, *a: None if name == "numba" else find(name, *a)
    )
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
