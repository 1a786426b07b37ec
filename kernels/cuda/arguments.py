"""A kernel's arguments: every scalar in the exact type of its parameter, every array of the type it is read as.

A launch passes bytes, not types: CuPy sends a Python int as int64 and a float as float64 whatever the kernel reads.
"""

from __future__ import annotations

import numpy as np

DTYPES = {
    "i8": np.dtype(np.int8), "u8": np.dtype(np.uint8), "i16": np.dtype(np.int16), "u16": np.dtype(np.uint16),
    "i32": np.dtype(np.int32), "u32": np.dtype(np.uint32), "i64": np.dtype(np.int64), "u64": np.dtype(np.uint64),
    "f32": np.dtype(np.float32), "f64": np.dtype(np.float64),
}  # fmt: skip


def prepare(kernel, values):
    """Return the arguments of a launch: arrays as they are, numbers as NumPy scalars of the parameters' types.

    Raises
    ------
    TypeError
        A wrong number of arguments, an array of another dtype, or a number where an array belongs.
    OverflowError
        An integer that its parameter cannot hold.
    """
    if len(values) != len(kernel.parameters):
        raise TypeError(f"{kernel.name} takes {len(kernel.parameters)} arguments; got {len(values)}")
    result = []
    for place, ((name, pointer), value) in enumerate(zip(kernel.parameters, values, strict=True)):
        where = f"argument {place} of {kernel.name}"
        if pointer:
            if not hasattr(value, "dtype") or not hasattr(value, "strides"):
                raise TypeError(f"{where} must be an array; got {type(value).__name__}")
            wanted = DTYPES.get(name)
            if wanted is not None and value.dtype != wanted:
                raise TypeError(f"{where} must be of dtype {wanted}; got {value.dtype}")
            result.append(value)
            continue
        wanted = DTYPES[name]
        if wanted.kind == "f":
            result.append(wanted.type(value))
            continue
        number = int(value)
        if number != value:
            raise TypeError(f"{where} must be a whole number; got {value!r}")
        limits = np.iinfo(wanted)
        if not limits.min <= number <= limits.max:
            raise OverflowError(f"{where} must fit {wanted}; got {number}")
        result.append(wanted.type(number))
    return result
