"""Three proofs without a device: the kernel texts run on the host, compiled by NVRTC as CuPy does, and by nvcc."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qengine.kernels.cuda import arguments, sources

SHIM = Path(__file__).with_name("shim")
GXX_OPTIONS = (
    "-std=c++17", "-O1", "-g1", "-U_FORTIFY_SOURCE", "-fPIC", "-shared", "-ffp-contract=off", "-fno-strict-aliasing",
    "-fsanitize=undefined,float-cast-overflow", "-fno-sanitize=vptr", "-static-libubsan",
    "-Wall", "-Wextra", "-Werror",
)  # fmt: skip
#: What every room is compiled for.
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
#: Seconds after which a compilation that nobody used is removed: texts change, and none is ever used again.
UNUSED = 14 * 86400


class Failed(AssertionError):
    """A kernel that did not compile, or whose run broke a rule."""


def run(command: list[str], where: Path | None = None) -> str:
    """Run a compiler; return what it printed, raise `Failed` if it failed."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=where, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


@functools.cache
def _version(compiler: str) -> str:
    return run([compiler, "--version"])


# ---------------------------------------------------------------------------------------------------------
# What was built once: kept by everything that decides it, for every test and every process of a run


def _cache() -> Path:
    folder = Path(tempfile.gettempdir()) / f"qengine-shim-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise Failed(f"{folder} belongs to somebody else")
    return folder


def kept(name: str, key: list[str], make: Callable[[Path], None]) -> Path:
    """Return the folder that `make` filled for this key; whoever comes while another makes it waits."""
    target = _cache() / f"{name}-{hashlib.sha256(chr(0).join(key).encode()).hexdigest()[:24]}"
    if _still_there(target):
        return target
    import fcntl  # not on Windows, which has no g++ here

    # One of a few files that stay: to remove one that somebody may hold would let two make the same.
    with (_cache() / f"lock-{target.name[-2:]}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _still_there(target):
            folder = Path(tempfile.mkdtemp(dir=_cache()))
            try:
                make(folder)
                folder.rename(target)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            _prune()
    return target


def _still_there(target: Path) -> bool:
    """Whether the folder is there; if so its time is now, so that nobody prunes it."""
    with contextlib.suppress(FileNotFoundError):
        os.utime(target)
        return True
    return False


def _prune() -> None:
    """Remove what nobody has used for `UNUSED` seconds, and what those left who were killed."""
    for path in _cache().iterdir():
        with contextlib.suppress(OSError):  # another process removes it, too
            if path.is_dir() and time.time() - path.stat().st_mtime > UNUSED:
                # Away by its name first: who is killed here leaves no half of it.
                shutil.rmtree(path.rename(tempfile.mkdtemp(dir=_cache())))


# ---------------------------------------------------------------------------------------------------------
# g++ with UBSan


def gxx() -> str | None:
    """The host compiler, or None."""
    return shutil.which("g++")


def _shim_text(room: str) -> str:
    kernels = sources.kernels(room).values()
    rows = "".join(f"QE_SHIM({kernel.name}, {str(kernel.cooperative).lower()})\n" for kernel in kernels)
    return f'#include "runtime.h"\n#include "{room}.cu"\n{rows}'


def _library(room: str) -> Path:
    text, compiler = _shim_text(room), gxx()
    assert compiler is not None

    def make(folder: Path) -> None:
        source = folder / f"{room}_shim.cpp"
        source.write_text(text)
        include = [f"-I{sources.FOLDER}", f"-I{SHIM}"]
        run([compiler, *GXX_OPTIONS, *include, str(source), "-o", str(folder / "shim.so")])

    key = [_version(compiler), *GXX_OPTIONS, str(SHIM), text, (SHIM / "runtime.h").read_text(), sources.assemble(room)]
    return kept(room, key, make) / "shim.so"


@dataclass
class Shim:
    """Kernels of one room, run on the host.

    ``launch`` takes what `qengine.kernels.cuda.load.launch` takes, with NumPy arrays; ``order`` says in which order
    blocks and threads run (0 forward, 1 backward, others shuffled): no result may depend on it.
    """

    room: str
    order: int = 0
    library: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.library = ctypes.CDLL(str(_library(self.room)))

    def launch(self, name: str, blocks: int, threads: int, *values: Any, part: slice | None = None) -> None:
        """Run a kernel over a 1-D grid; raise `Failed` on undefined behaviour or deadlock.

        `part` says which blocks of the grid to run; all by default.
        """
        kernel = sources.kernels(self.room)[name]
        if not (0 < threads <= kernel.threads and 0 < blocks < 2**31):
            raise Failed(f"{name}: {blocks} blocks of {threads} threads")
        prepared = arguments.prepare(kernel, values)
        cells = [
            ctypes.c_void_p(value.ctypes.data) if isinstance(value, np.ndarray) else np.array(value).ctypes
            for value in prepared
        ]  # `.ctypes` keeps its array alive
        pointers = (ctypes.c_void_p * len(cells))(
            *(ctypes.addressof(c) if isinstance(c, ctypes.c_void_p) else c.data for c in cells)
        )
        shape = (ctypes.c_uint32 * 6)(blocks, 1, 1, threads, 1, 1)
        first, last, _ = (part or slice(None)).indices(blocks)
        run_part = (ctypes.c_uint64 * 2)(first, max(0, last - first))
        function = getattr(self.library, f"launch_{name}")
        function.restype = ctypes.c_char_p
        error = function(shape, run_part, ctypes.c_uint32(self.order), ctypes.c_uint32(len(cells)), pointers)
        if error is not None:
            raise Failed(f"{name}: {error.decode()}")


@functools.cache
def shim(room: str, order: int = 0) -> Shim:
    """Return the kernels of a room, built once per text and compiler."""
    return Shim(room, order)


# ---------------------------------------------------------------------------------------------------------
# NVRTC, as CuPy calls it


def nvrtc_library() -> Path | None:
    """The newest NVRTC: of the wheels in this environment, or of a toolkit; None if there is none."""
    places: list[Path] = []
    for folder in sys.path:
        places += Path(folder).glob("nvidia/*/lib/libnvrtc.so.*")
    for root in (os.environ.get("CUDA_PATH", ""), os.environ.get("CUDA_HOME", ""), "/usr/local/cuda"):
        if root:
            places += [*Path(root).glob("lib64/libnvrtc.so.*"), *Path(root).glob("targets/*/lib/libnvrtc.so.*")]
    places = [p for p in places if "builtins" not in p.name and ".alt." not in p.name]
    return places[0] if places else None


def nvrtc_options(arch: str) -> tuple[str, ...]:
    """Exactly what reaches NVRTC from CuPy's RawModule: ours, then those that CuPy adds, in its order."""
    return (*sources.options(), f"-arch={arch}", "--device-as-default-execution-space", "-ftz=true")


@functools.cache
def _nvrtc() -> ctypes.CDLL:
    path = nvrtc_library()
    assert path is not None
    return ctypes.CDLL(str(path))


@dataclass(frozen=True)
class Compiled:
    """A compilation: the device binary (or PTX) and what the compiler said."""

    binary: bytes
    log: str


def compile_nvrtc(text: str, options: tuple[str, ...], *, ptx: bool = False) -> Compiled:
    """Compile with NVRTC, the same but once; raise `Failed` with its log if it refuses."""

    def make(folder: Path) -> None:
        compiled = _compile_nvrtc(text, options, ptx)
        (folder / "binary").write_bytes(compiled.binary)
        (folder / "log").write_text(compiled.log)

    path = nvrtc_library()
    assert path is not None
    key = [str(path.resolve()), str(path.stat().st_mtime_ns), text, *options, str(ptx)]
    folder = kept("nvrtc", key, make)
    return Compiled((folder / "binary").read_bytes(), (folder / "log").read_text())


def _compile_nvrtc(text: str, options: tuple[str, ...], ptx: bool) -> Compiled:
    lib, program = _nvrtc(), ctypes.c_void_p()

    def check(status: int) -> None:
        if status:
            lib.nvrtcGetErrorString.restype = ctypes.c_char_p
            raise Failed(lib.nvrtcGetErrorString(status).decode())

    def fetch(kind: str) -> bytes:
        size = ctypes.c_size_t()
        check(getattr(lib, f"nvrtcGet{kind}Size")(program, ctypes.byref(size)))
        buffer = ctypes.create_string_buffer(size.value)
        check(getattr(lib, f"nvrtcGet{kind}")(program, buffer))
        return buffer.raw

    check(lib.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernels.cu", 0, None, None))
    try:
        flags = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        status = lib.nvrtcCompileProgram(program, len(options), flags)
        log = fetch("ProgramLog").rstrip(b"\0").decode(errors="replace").strip()
        if status:
            raise Failed(f"NVRTC refuses {' '.join(options)}:\n{log}")
        return Compiled(fetch("PTX" if ptx else "CUBIN"), log)
    finally:
        lib.nvrtcDestroyProgram(ctypes.byref(program))


# ---------------------------------------------------------------------------------------------------------
# nvcc


def nvcc() -> str | None:
    """The compiler driver, or None."""
    return shutil.which("nvcc")


@dataclass(frozen=True)
class Resources:
    """What ptxas reports of one kernel, bytes but for the registers."""

    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int


Nvrtc = Callable[..., Compiled]
Nvcc = Callable[[str, str], tuple[Path, dict[str, Resources]]]


def compile_nvcc(room: str, arch: str) -> tuple[Path, dict[str, Resources]]:
    """Compile a room into a cubin, the same but once, warnings being errors; its path, and each kernel's resources."""
    compiler = nvcc()
    assert compiler is not None
    text = sources.assemble(room)
    options = [
        "-cubin", f"-arch={arch}", *sources.options(), "-ftz=true", "-Werror", "all-warnings", "-Xptxas", "-v",
    ]  # fmt: skip

    def make(folder: Path) -> None:
        source = folder / f"{room}.cu"
        source.write_text(text)
        (folder / "report").write_text(run([compiler, *options, str(source), "-o", str(folder / "cubin")]))

    folder = kept(f"{room}-{arch}", [_version(compiler), *options, text], make)
    return folder / "cubin", parse_resources((folder / "report").read_text())


def parse_resources(report: str) -> dict[str, Resources]:
    """Read ptxas -v: kernel name to resources."""
    result: dict[str, Resources] = {}
    blocks = re.split(r"Compiling entry function '(\w+)'", report)[1:]
    for name, text in zip(blocks[::2], blocks[1::2], strict=True):
        frame = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", text)
        used = re.search(r"Used (\d+) registers", text)
        shared = re.search(r"(\d+) bytes smem", text)
        assert frame is not None
        assert used is not None
        result[name] = Resources(
            int(used[1]), int(frame[1]), int(frame[2]), int(frame[3]), int(shared[1]) if shared else 0
        )
    return result
