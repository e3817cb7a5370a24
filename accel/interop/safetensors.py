"""Tensors in safetensors files: a header of names, dtypes and shapes, then plain bytes.

Reading one runs no code, unlike unpickling.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from operator import itemgetter
from typing import Any

import numpy as np

from ..errors import ArgumentError, NotAnArrayError, UnsupportedDTypeError
from ..frontend import public as accel
from ..ir.dtypes import to_dtype

__all__ = ["load_safetensors", "save_safetensors"]

#: The format's names of dtypes.
DTYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16",
    "U32": "uint32", "I32": "int32", "U64": "uint64", "I64": "int64", "F16": "float16",
    "BF16": "bfloat16", "F32": "float32", "F64": "float64", "C64": "complex64",
}  # fmt: skip


def save_safetensors(
    tensors: Mapping[str, Any],
    path: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write tensors or arrays to a file, replacing it only once everything is written.

    Parameters
    ----------
    tensors
        Names to tensors or arrays, as `Module.state_dict` returns them.
    path
        The file.
    metadata
        Text by name, kept beside the tensors.

    Raises
    ------
    UnsupportedDTypeError
        For a dtype that the format lacks, such as complex128.

    Examples
    --------
    >>> import accel, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "a.safetensors")
    >>> accel.save_safetensors({"a": accel.arange(3)}, path)
    >>> accel.load_safetensors(path)["a"].tolist()
    [0, 1, 2]
    """
    from pathlib import Path

    from safetensors.numpy import save

    data = save({name: _array(name, value) for name, value in tensors.items()}, _text(metadata))
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.urandom(4).hex()}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _text(metadata: Mapping[str, str] | None) -> dict[str, str] | None:
    for name, value in (metadata or {}).items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise ArgumentError(
                f"metadata {name!r}: {value!r} is not text", remedy="convert it with str()"
            )
    return dict(metadata) if metadata else None


def _array(name: str, value: Any) -> np.ndarray:
    if not isinstance(name, str):
        raise ArgumentError(f"{name!r} names a tensor", remedy="use str names")
    if not isinstance(value, (accel.Tensor, np.ndarray, np.generic)):
        raise NotAnArrayError(
            f"{name!r} is {type(value).__name__}, not a tensor or an array",
            remedy="save numbers as 0-d arrays or as metadata",
        )
    found = value.numpy() if isinstance(value, accel.Tensor) else np.asarray(value)
    if found.dtype.name not in DTYPES.values():
        raise UnsupportedDTypeError(
            f"{name!r} has dtype {found.dtype}, which safetensors files cannot hold",
            remedy="cast it first",
        )
    # ascontiguousarray alone would make a 0-d array 1-d.
    return np.ascontiguousarray(found).reshape(found.shape)


def load_safetensors(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read every tensor of a file.

    Parameters
    ----------
    path
        A safetensors file, from whatever library.

    Returns
    -------
    dict
        Names, in alphabetical order, to tensors in the file's dtypes.

    Raises
    ------
    ArgumentError
        When the file is damaged or not a safetensors file.
    UnsupportedDTypeError
        When it holds a dtype that accel lacks, such as an 8-bit float.
    """
    from safetensors import SafetensorError, deserialize

    with open(path, "rb") as file:
        content = file.read()
    try:
        entries = deserialize(content)
    except SafetensorError as error:
        raise ArgumentError(
            f"{os.fspath(path)} is not a valid safetensors file: {error}",
            remedy="check that the file was written completely",
        ) from error
    return {
        name: accel.asarray(_read(name, entry))
        for name, entry in sorted(entries, key=itemgetter(0))
    }


def _read(name: str, entry: Mapping[str, Any]) -> np.ndarray:
    if entry["dtype"] not in DTYPES:
        raise UnsupportedDTypeError(
            f"{name!r} has dtype {entry['dtype']}, which accel does not have",
            remedy="convert the file's tensor to a wider dtype",
        )
    dtype = to_dtype(DTYPES[entry["dtype"]]).numpy
    return np.frombuffer(entry["data"], dtype=dtype).reshape(entry["shape"])
