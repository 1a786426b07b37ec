"""All of Numba that kernels use, but for `lanes`: options, vector width, and a compile cache that cannot go stale.

Numba's own disk cache stamps one file, so an edited callee in another file runs stale machine code, and two
processes that save at once can point two signatures at one file. Here every compiled kernel has a file of its
own, named by the hash of its signature, in a directory named by the digest of all sources of this wing and
the versions of the compiler; files appear by an atomic rename.

``QENGINE_CACHE_DIR`` moves the directory; ``QENGINE_CACHE_DIR=`` (empty) turns the cache off. A directory that
cannot be written costs the compile time, nothing else.
"""

import contextlib
import functools
import hashlib
import os
import pickle
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import llvmlite
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator
from numba.core.serialize import dumps
from numba.extending import intrinsic

from .. import compiling

if sys.byteorder != "little":  # kernels read pairs of int32 as one int64
    raise ImportError("qengine.kernels.cpu needs a little-endian machine")

#: No fastmath: bits are promised, so LLVM must neither contract nor reassociate. Division by zero cannot occur.
OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": False}
_LINKED = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_KEPT_DIGESTS = 4


@functools.cache
def source_digest():
    """Digest of everything that decides the machine code, but the processor (that is in the signature key)."""
    wing = Path(__file__).parent
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__} {sys.version_info[:3]}".encode())
    for path in sorted([*wing.glob("*.py"), wing.parent / "codes.py"]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


@functools.cache
def cache_directory():
    """Directory of this digest, or None where the cache is off or cannot be written."""
    setting = os.environ.get("QENGINE_CACHE_DIR")
    if setting == "":
        return None
    home = os.path.expanduser(setting or os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    if home.startswith("~"):  # neither HOME nor an entry for this user, as in containers that run as any user
        return None
    root = Path(home) if setting else Path(home) / "qengine"
    path = root / f"cpu-{source_digest()}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError:
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
        others = sorted(root.glob("cpu-*"), key=lambda p: p.stat().st_mtime, reverse=True)
        for stale in others[_KEPT_DIGESTS:]:
            shutil.rmtree(stale, ignore_errors=True)
    return path


class _Locator(_CacheLocator):
    def get_cache_path(self):
        return str(cache_directory())

    def get_source_stamp(self):
        return source_digest()

    def get_disambiguator(self):
        return ""

    @classmethod
    def from_function(cls, py_func, py_file):
        return cls()


class _Files:
    """One file a compiled signature; a file that cannot be read is recompiled."""

    def __init__(self, name):
        self._name = name

    def _path(self, key):
        # The text of a type names it; its pickle would depend on which objects two types happen to share.
        return cache_directory() / f"{self._name}-{hashlib.sha256(repr(key).encode()).hexdigest()[:24]}.nbc"

    def load(self, key):
        try:
            content = self._path(key).read_bytes()
            if hashlib.sha256(content[32:]).digest() != content[:32]:
                return None
            return pickle.loads(content[32:])
        except (OSError, pickle.PickleError, EOFError):
            return None

    def save(self, key, data):
        content = dumps(data)
        path = self._path(key)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".partial-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(content).digest() + content)
            os.replace(partial, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(partial)

    def flush(self):
        pass


class _Impl(CompileResultCacheImpl):
    _locator_classes = (_Locator,)


class _Cache(FunctionCache):
    _impl_class = _Impl

    def __init__(self, py_func):
        super().__init__(py_func)
        self._cache_file = _Files(f"{py_func.__module__.rpartition('.')[2]}-{py_func.__qualname__}")

    def load_overload(self, sig, target_context):
        loaded = super().load_overload(sig, target_context)
        if loaded is None:
            compiling.tell(True)
        return loaded

    def save_overload(self, sig, data):
        super().save_overload(sig, data)
        compiling.tell(False)


def inner(function):
    """Compile a function that kernels call: linked into them, so without a cache and without a Python wrapper.

    It counts no references, which would be two locked instructions an array and call: it may take views, but must make
    no array, return none, and call nothing that returns one (`allocating` may).
    A literal argument (0, True) gets a variant of its own, compiled with all that it calls: ``np.int64(0)`` does not.
    """
    return numba.njit(**OPTIONS, **_LINKED, _nrt=False)(function)


def inlined(function):
    """Compile a function, as `inner`, into each caller whatever its size: a call passes seven words an array."""
    return numba.njit(**OPTIONS, **_LINKED, _nrt=False, forceinline=True)(function)


def allocating(function):
    """Compile a function that kernels call and that makes arrays, or calls what does."""
    return numba.njit(**OPTIONS, **_LINKED, _nrt=True)(function)


def kernel(function):
    """Compile an entry point on first use of a signature, and keep the machine code on disk."""
    dispatcher = numba.njit(**OPTIONS, no_cfunc_wrapper=True)(function)
    if cache_directory() is not None and not numba.config.DISABLE_JIT:
        dispatcher._cache = _Cache(function)
    return dispatcher


@intrinsic
def wide(typing_context):
    """Ask LLVM for 512-bit vectors in the function that calls this; no effect on narrower processors.

    LLVM prefers 256 bits on every AVX-512 processor so far; these loops run 1.2-1.4 times faster with 512.
    """

    def codegen(context, builder, signature, args):
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.none(), codegen


@intrinsic
def fma(typing_context, a, b, c):
    """``a * b + c`` rounded once, in float32 or float64 (a library call on processors without the instruction)."""

    def codegen(context, builder, signature, args):
        return builder.fma(*args)

    return a(a, b, c), codegen


@intrinsic
def bits_of(typing_context, a):
    """Return a float32's bits as an int32."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.IntType(32))

    return types.int32(types.float32), codegen


@intrinsic
def magnitude_bits(typing_context, a):
    """Return the high 32 bits of a float32 or a float64 without the sign: ordered as magnitudes are, NaN above all."""

    def codegen(context, builder, signature, args):
        word = ir.IntType(32)
        if a.bitwidth == 64:
            long = ir.IntType(64)
            high = builder.trunc(builder.lshr(builder.bitcast(args[0], long), long(32)), word)
        else:
            high = builder.bitcast(args[0], word)
        return builder.and_(high, word(0x7FFFFFFF))

    return types.int32(a), codegen


@intrinsic
def prefetch(typing_context, address):
    """Ask for the cache line at an address; any address is allowed, also beyond the end of an array.

    The hardware's own prefetch stops at page ends and lags behind two-pass blocks: with this a large array streams
    at the memory's speed instead of two thirds of it.
    """

    def codegen(context, builder, signature, args):
        pointer, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        signature = ir.FunctionType(ir.VoidType(), [pointer, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, signature, "llvm.prefetch.p0")
        builder.call(function, [builder.inttoptr(args[0], pointer), word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.none(types.int64), codegen


@intrinsic
def stream(typing_context, target, source, lines):
    """Copy 64-byte lines past the caches (non-temporal stores); both addresses are multiples of 64.

    An ordinary store first reads the line that it overwrites: on arrays larger than the caches that costs as much
    traffic as the store itself. `fence` orders these stores before what follows.
    """

    def codegen(context, builder, signature, args):
        line = ir.VectorType(ir.IntType(8), 64)
        to, source = (builder.inttoptr(address, line.as_pointer()) for address in args[:2])
        nontemporal = builder.module.add_metadata([ir.IntType(32)(1)])
        with cgutils.for_range(builder, args[2]) as loop:
            value = builder.load(builder.gep(source, [loop.index]), align=64)
            store = builder.store(value, builder.gep(to, [loop.index]), align=64)
            store.set_metadata("nontemporal", nontemporal)
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, types.intp), codegen


@intrinsic
def fence(typing_context):
    """Order all stores before the ones that follow, non-temporal ones too."""

    def codegen(context, builder, signature, args):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.none(), codegen


def read_only(array):
    """Return a read-only view, so that one compiled signature serves writable and read-only inputs."""
    view = array.view()
    view.flags.writeable = False
    return view


#: A zero that LLVM cannot see: adding it to a loop-invariant multiplier every iteration keeps the multiplier
#: "variant", so its mask stays inside the loop and the product is one vpmuldq (32x32->64) instead of a vpmullq.
ZERO = np.int64(0)

warnings.filterwarnings("ignore", category=numba.NumbaPerformanceWarning, module=__name__)
