"""Decode a TensorProto in bounded memory: a few bytes may declare a tensor of any size."""

from __future__ import annotations

import math
from typing import Any

# TensorFlow's DataType numbers (tensorflow/core/framework/types.proto): the numpy type, and the field of a TensorProto
# that holds the values if `tensor_content` is empty.
_DTYPES = {
    1: ("<f4", "float_val"),
    2: ("<f8", "double_val"),
    3: ("<i4", "int_val"),
    4: ("|u1", "int_val"),
    5: ("<i2", "int_val"),
    6: ("|i1", "int_val"),
    8: ("<c8", "scomplex_val"),
    9: ("<i8", "int64_val"),
    10: ("|b1", "bool_val"),
    14: ("bfloat16", "half_val"),
    17: ("<u2", "int_val"),
    18: ("<c16", "dcomplex_val"),
    19: ("<f2", "half_val"),
    22: ("<u4", "uint32_val"),
    23: ("<u8", "uint64_val"),
}
_MAX_REPEATED_BYTES = 1 << 20


def to_array(tensor: Any) -> tuple[str, Any]:
    """Convert to (dtype, numpy array). bfloat16 stays raw 16 bits, since numpy has no such type.

    Raises:
        ArithmeticError, LookupError, TypeError, ValueError: the type, shape and values do not fit.
    """
    import numpy as np

    dtype, field = _DTYPES[tensor.dtype]
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    bits = np.dtype("<u2" if dtype == "bfloat16" else dtype)
    if tensor.tensor_content:
        array = np.frombuffer(tensor.tensor_content, bits)
    elif field == "half_val":
        array = _halves(list(tensor.half_val), dtype)
    elif field in ("scomplex_val", "dcomplex_val"):
        parts = np.array(list(getattr(tensor, field)), "<f4" if field == "scomplex_val" else "<f8")
        array = parts.view(bits)
    else:
        # torch stores uint8 in `uint32_val` (torch/utils/tensorboard/summary.py, _TENSOR_TYPE_MAP).
        array = np.array(list(getattr(tensor, field) or tensor.uint32_val), bits)
    if array.size != 1:
        return dtype, array.reshape(shape or -1)
    # A single value fills the whole tensor (tensorflow/core/framework/tensor.proto).
    if math.prod(shape) * bits.itemsize > _MAX_REPEATED_BYTES:
        raise ValueError(f"one value for a tensor of {math.prod(shape)} elements")
    return dtype, np.broadcast_to(array[0], shape)


def to_floats(tensor: Any) -> Any:
    """Convert the numbers of a tensor to a numpy array of floats, also from bfloat16.

    Raises:
        ArithmeticError, LookupError, TypeError, ValueError: as `to_array`.
    """
    dtype, array = to_array(tensor)
    if dtype == "bfloat16":  # the upper half of a float32
        return (array.astype("<u4") << 16).view("<f4").astype(float)
    return array.astype(float)


def to_rows(tensor: Any) -> list[list[bytes]] | None:
    """Return the rows of a string tensor with two or more dimensions, or None for any other."""
    shape, strings = [dim.size for dim in tensor.tensor_shape.dim], list(tensor.string_val)
    if len(shape) < 2 or not strings or math.prod(shape) != len(strings):
        return None
    width = shape[-1]
    return [strings[start : start + width] for start in range(0, len(strings), width)]


def _halves(numbers: list[int], dtype: str) -> Any:
    """Decode 16-bit floats. torch puts float32 bits in `half_val` (torch/utils/tensorboard/summary.py, half_to_int)."""
    import numpy as np

    if all(0 <= number <= 0xFFFF for number in numbers):
        return np.array(numbers, "<u2").view("<u2" if dtype == "bfloat16" else dtype)
    wide = np.array(numbers, "<i4")
    if dtype == "bfloat16":
        return (wide.view("<u4") >> 16).astype("<u2")
    return wide.view("<f4").astype(dtype)
