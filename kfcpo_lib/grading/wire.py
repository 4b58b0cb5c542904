"""What goes between the checks and a student's process.

To the student: pickle, whole modules and all, since what is sent is ours; a function of the check
stays where it is, and the student gets a number to call it by. From the student: JSON with plain
numbers, arrays and tensors, and nothing that could run here.
"""

import base64
import io
import json
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

LARGEST = 2**20
"""Bytes of a message from a student's process."""
DTYPES = {
    name: np.dtype(name)
    for name in (
        "bool",
        "uint8",
        "int8",
        "int16",
        "int32",
        "int64",
        "float16",
        "float32",
        "float64",
    )
}
CHECKS = "kfcpo_lib.exercises"

# ------------------------------------------------------------------------------- to the student


class _Packer(pickle.Pickler):
    def __init__(self, file: io.BytesIO, lent: list[Callable[..., Any]]) -> None:
        super().__init__(file)
        self.lent = lent

    def persistent_id(self, thing: Any) -> int | None:
        if not _stays_here(thing):
            return None
        self.lent.append(thing)
        return len(self.lent) - 1


def _stays_here(thing: Any) -> bool:
    if isinstance(thing, FunctionType):
        return "<" in thing.__qualname__ or thing.__module__.startswith(CHECKS)
    if isinstance(thing, BuiltinFunctionType):
        return not isinstance(thing.__self__, ModuleType | None)
    return isinstance(thing, MethodType)


def pack(message: Any, lent: list[Callable[..., Any]]) -> bytes:
    """A message to the student; the check's functions in it are added to `lent`."""
    file = io.BytesIO()
    _Packer(file, lent).dump(message)
    return file.getvalue()


class _Unpacker(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, borrow: Callable[[int], Callable[..., Any]]) -> None:
        super().__init__(file)
        self.borrow = borrow

    def persistent_load(self, number: Any) -> Callable[..., Any]:
        return self.borrow(number)


def unpack(message: bytes, borrow: Callable[[int], Callable[..., Any]]) -> Any:
    """The message again; `borrow(number)` makes a function that calls the check's function."""
    return _Unpacker(io.BytesIO(message), borrow).load()


# ----------------------------------------------------------------------------- from the student


def encode(value: Any) -> Any:
    """A student's value in JSON's terms.

    Raises:
        TypeError: if it is no number, text, array or tensor, nor made of them.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return encode(value.item())
    if isinstance(value, np.ndarray | Tensor):
        return _encode_array(value)
    if isinstance(value, list):
        return [encode(part) for part in value]
    if isinstance(value, tuple):
        return {"tuple": [encode(part) for part in value]}
    if isinstance(value, Mapping):
        return {"dict": [[encode(key), encode(part)] for key, part in value.items()]}
    raise TypeError(
        f"it hands over a {type(value).__name__}; numbers, arrays, tensors, and lists, tuples or "
        "dicts of them can be graded"
    )


def _encode_array(value: np.ndarray[Any, Any] | Tensor) -> dict[str, Any]:
    plain = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
    if plain.dtype.name not in DTYPES:
        raise TypeError(f"it hands over an array of {plain.dtype}; real numbers can be graded")
    content = base64.b64encode(np.ascontiguousarray(plain).tobytes()).decode("ascii")
    encoded = {"array": content, "dtype": plain.dtype.name, "shape": plain.shape}
    if isinstance(value, Tensor):
        encoded["gradient"] = value.requires_grad
    return encoded


def read_message(line: bytes) -> dict[str, Any]:
    """A line of a student's process.

    Raises:
        ValueError: if it is not JSON, or not a message.
    """
    try:
        message = json.loads(line)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(message, dict):
        raise ValueError("not a message")
    return message


def decode(coded: Any) -> Any:
    """The student's value; the inverse of `encode`.

    Raises:
        ValueError: if `encode` could not have written this.
    """
    if coded is None or isinstance(coded, bool | int | float | str):
        return coded
    if isinstance(coded, list):
        return [decode(part) for part in coded]
    if not isinstance(coded, dict):
        raise ValueError("not a value")
    if "array" in coded:
        return _decode_array(coded)
    if isinstance(coded.get("tuple"), list):
        return tuple(decode(part) for part in coded["tuple"])
    if isinstance(coded.get("dict"), list):
        return _decode_dict(coded["dict"])
    raise ValueError("not a value")


def _decode_dict(pairs: Sequence[Any]) -> dict[Any, Any]:
    try:
        return {decode(key): decode(part) for key, part in pairs}
    except TypeError as error:
        raise ValueError("not a dict") from error


def _decode_array(coded: Mapping[str, Any]) -> np.ndarray[Any, Any] | Tensor:
    content, dtype, shape = coded["array"], DTYPES.get(str(coded.get("dtype"))), coded.get("shape")
    whole = isinstance(content, str) and dtype is not None and isinstance(shape, list)
    if not whole or not all(type(length) is int and length >= 0 for length in shape or ()):
        raise ValueError("not an array")
    flat = np.frombuffer(base64.b64decode(content, validate=True), dtype)
    array = flat.reshape(tuple(shape or ())).copy()
    if "gradient" not in coded:
        return array
    tensor = torch.from_numpy(array)
    return tensor.requires_grad_() if coded["gradient"] is True else tensor


# ------------------------------------------- what the student's function has done to its arguments


def places(value: Any) -> Iterator[np.ndarray[Any, Any] | Tensor]:
    """The arrays and tensors in a function's arguments, in an order that both sides share."""
    if isinstance(value, np.ndarray | Tensor):
        yield value
    elif isinstance(value, nn.Module):
        yield from value.parameters()
        yield from value.buffers()
    elif isinstance(value, list | tuple):
        for part in value:
            yield from places(part)


def hooks(arguments: Sequence[Any]) -> list[int]:
    """How many forward hooks are on each layer of each module among the arguments."""
    return [len(layer._forward_hooks) for layer in _layers(arguments)]


def _layers(arguments: Sequence[Any]) -> list[nn.Module]:
    given = [argument for argument in arguments if isinstance(argument, nn.Module)]
    return [layer for module in given for layer in module.modules()]


def put_back(arguments: Sequence[Any], changed: Any, left: Any) -> None:
    """Make our arguments what the student's have become: numbers in place, and hooks left on.

    Raises:
        ValueError: if `changed` or `left` do not fit the arguments.
    """
    ours, layers = list(places(arguments)), _layers(arguments)
    try:
        for place, coded in changed:
            _overwrite(ours[place], decode(coded))
        for layer, count in zip(layers, left, strict=True):
            for _ in range(min(count, 9) - len(layer._forward_hooks)):
                layer.register_forward_hook(lambda *_: None)
    except (TypeError, IndexError, RuntimeError) as error:
        raise ValueError("not what the arguments have become") from error


def _overwrite(ours: np.ndarray[Any, Any] | Tensor, now: Any) -> None:
    if not isinstance(now, np.ndarray if isinstance(ours, np.ndarray) else Tensor):
        raise ValueError("not an array of this kind")
    if now.shape != ours.shape or now.dtype != ours.dtype:
        raise ValueError("of another shape")
    if isinstance(ours, Tensor):
        ours.detach().copy_(torch.as_tensor(now).detach())
    else:
        ours[...] = now
