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
from dataclasses import is_dataclass
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, SimpleNamespace
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


class Once(list[Any]):
    """What an iterator of the check would have given; the student gets an iterator again."""


def lay_out(argument: Any) -> Any:
    """An argument as it is sent: an iterator as `Once`, all else as it is."""
    return Once(argument) if isinstance(argument, Iterator) else argument


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


Array = np.ndarray[Any, Any] | Tensor


def encode(value: Any, ours: Sequence[Array] = ()) -> Any:
    """A student's value in JSON's terms; what shares its memory with one of `ours` says so.

    Raises:
        TypeError: if it is no number, text, array or tensor, nor made of them.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return encode(value.item())
    if isinstance(value, np.ndarray | Tensor):
        return _encode_array(value, ours)
    if isinstance(value, list):
        return [encode(part, ours) for part in value]
    if isinstance(value, tuple):
        return {"tuple": [encode(part, ours) for part in value]}
    if isinstance(value, set | frozenset):
        return {"set": [encode(part) for part in value]}
    if isinstance(value, Mapping):
        return {"dict": [[encode(key), encode(part, ours)] for key, part in value.items()]}
    raise TypeError(
        f"it hands over a {type(value).__name__}; numbers, arrays, tensors, and lists, tuples, "
        "sets or dicts of them can be graded"
    )


def _encode_array(value: Array, ours: Sequence[Array]) -> dict[str, Any]:
    plain = _plain(value)
    if plain.dtype.name not in DTYPES:
        raise TypeError(f"it hands over an array of {plain.dtype}; real numbers can be graded")
    gradient: dict[str, bool | str] = {}
    if isinstance(value, Tensor):
        gradient = {"gradient": "graph" if value.grad_fn is not None else value.requires_grad}
    for place, own in enumerate(ours):
        if isinstance(own, Tensor) == isinstance(value, Tensor) and _same_memory(own, plain):
            return {"place": place} | gradient
    content = base64.b64encode(np.ascontiguousarray(plain).tobytes()).decode("ascii")
    return {"array": content, "dtype": plain.dtype.name, "shape": plain.shape} | gradient


def _plain(value: Array) -> np.ndarray[Any, Any]:
    plain: np.ndarray[Any, Any] = (
        value.detach().cpu().numpy() if isinstance(value, Tensor) else value
    )
    return plain


def _same_memory(own: Array, plain: np.ndarray[Any, Any]) -> bool:
    other = _plain(own)
    layout = (other.ctypes.data, other.shape, other.strides, other.dtype)
    return plain.size > 0 and layout == (plain.ctypes.data, plain.shape, plain.strides, plain.dtype)


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


def decode(coded: Any, ours: Sequence[Array] = ()) -> Any:
    """The student's value; the inverse of `encode`.

    Raises:
        ValueError: if `encode` could not have written this.
    """
    if coded is None or isinstance(coded, bool | int | float | str):
        return coded
    if isinstance(coded, list):
        return [decode(part, ours) for part in coded]
    if not isinstance(coded, dict):
        raise ValueError("not a value")
    if "array" in coded or "place" in coded:
        array = _decode_array(coded) if "array" in coded else _at_place(coded["place"], ours)
        return _with_gradient(array, coded)
    return _decode_many(coded, ours)


def _decode_many(coded: Mapping[str, Any], ours: Sequence[Array]) -> Any:
    """A tuple, a set or a dict."""
    try:
        if "tuple" in coded:
            return tuple(decode(part, ours) for part in coded["tuple"])
        if "set" in coded:
            return {decode(part) for part in coded["set"]}
        return {decode(key): decode(part, ours) for key, part in coded["dict"]}
    except (TypeError, KeyError) as error:
        raise ValueError("not a value") from error


def _at_place(place: Any, ours: Sequence[Array]) -> Array:
    if type(place) is not int or not 0 <= place < len(ours):
        raise ValueError("not a place")
    return ours[place]


def _with_gradient(array: Array, coded: Mapping[str, Any]) -> Array:
    if not isinstance(array, Tensor) and "gradient" not in coded:
        return array
    tensor, gradient = torch.as_tensor(array), coded.get("gradient")
    if gradient not in (True, "graph"):
        return tensor.detach()
    leaf = tensor if tensor.requires_grad else tensor.detach().requires_grad_()
    return leaf.view_as(leaf) if gradient == "graph" else leaf


def _decode_array(coded: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    content, dtype, shape = coded["array"], DTYPES.get(str(coded.get("dtype"))), coded.get("shape")
    whole = isinstance(content, str) and dtype is not None and isinstance(shape, list)
    if not whole or not all(type(length) is int and length >= 0 for length in shape or ()):
        raise ValueError("not an array")
    flat = np.frombuffer(base64.b64decode(content, validate=True), dtype)
    return flat.reshape(tuple(shape or ())).copy()


# ------------------------------------------- what the student's function has done to its arguments


def places(value: Any) -> Iterator[Array]:
    """The arrays and tensors in a function's arguments, in an order that both sides share."""
    if isinstance(value, np.ndarray | Tensor):
        yield value
    elif isinstance(value, nn.Module):
        yield from value.parameters()
        yield from value.buffers()
    elif isinstance(value, list | tuple):
        for part in value:
            yield from places(part)
    elif is_dataclass(value) or isinstance(value, SimpleNamespace):
        for part in vars(value).values():
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
            _overwrite(_at_place(place, ours), decode(coded))
        for layer, count in zip(layers, left, strict=True):
            for _ in range(min(count, 9) - len(layer._forward_hooks)):
                layer.register_forward_hook(lambda *_: None)
    except (TypeError, IndexError, RuntimeError) as error:
        raise ValueError("not what the arguments have become") from error


def _overwrite(ours: Array, now: Any) -> None:
    if not isinstance(now, np.ndarray if isinstance(ours, np.ndarray) else Tensor):
        raise ValueError("not an array of this kind")
    if now.shape != ours.shape or now.dtype != ours.dtype:
        raise ValueError("of another shape")
    if isinstance(ours, Tensor):
        ours.detach().copy_(torch.as_tensor(now).detach())
    else:
        ours[...] = now
