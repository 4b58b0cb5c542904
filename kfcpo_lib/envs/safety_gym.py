"""Safety Gymnasium on Python 3.11: importing it quietly, and making stock environments.

Importing `kfcpo_lib` runs this module, so `import safety_gymnasium` works anywhere after it.
"""

import contextlib
import copy
import dataclasses
import difflib
import functools
import inspect
import io
import os
import warnings
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def _mutable_dataclass_defaults() -> Iterator[None]:
    """Let dataclasses have NumPy arrays as defaults, as Python 3.10 did, inside the `with` block.

    safety_gymnasium 1.0.0 writes `size: np.ndarray = np.zeros(3)`, which Python 3.11 refuses
    because arrays are not hashable. Each such default becomes a factory of copies.
    """
    original = dataclasses.dataclass

    def dataclass(cls: Any = None, /, **options: Any) -> Any:
        if cls is None:
            return functools.partial(dataclass, **options)
        for name in inspect.get_annotations(cls):
            default = vars(cls).get(name)
            unhashable = default is not None and type(default).__hash__ is None
            if unhashable:
                copies = functools.partial(copy.copy, default)
                setattr(cls, name, dataclasses.field(default_factory=copies))
        return original(cls, **options)

    dataclasses.dataclass = dataclass
    try:
        yield
    finally:
        dataclasses.dataclass = original


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Swallow what gymnasium-robotics and pygame print, and warn about, when they are imported."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


with _quiet(), _mutable_dataclass_defaults():
    import gymnasium
    import safety_gymnasium
    from safety_gymnasium.utils.registration import safe_registry

__all__ = ["gymnasium", "known_env_ids", "make_stock", "safety_gymnasium"]


def known_env_ids() -> list[str]:
    """Names of the registered Safety Gymnasium tasks, such as `SafetyPointGoal1-v0`.

    The `Gymnasium` twins (same task, reward only) and the `Debug` and `Vision` variants, which
    need a keyboard or a camera, are left out.
    """
    left_out = ("Debug", "Vision", "Gymnasium")
    return sorted(
        name
        for name in safe_registry
        if name.startswith("Safety") and not any(word in name for word in left_out)
    )


def make_stock(env_id: str, **options: Any) -> Any:
    """The stock environment, `step -> (obs, reward, cost, terminated, truncated, info)`.

    Raises:
        ValueError: if `env_id` is not one of `known_env_ids()`.
    """
    check_safety_env_id(env_id)
    with _quiet():
        return safety_gymnasium.make(env_id, **options)


def check_safety_env_id(env_id: str) -> None:
    """Raise a ValueError that names close matches if `env_id` is not a Safety Gymnasium task."""
    known = known_env_ids()
    if env_id not in known:
        near = difflib.get_close_matches(env_id, known, n=3) or known[:3]
        raise ValueError(
            f"unknown environment {env_id!r}; did you mean {', '.join(near)}? "
            f"{len(known)} Safety Gymnasium tasks are known"
        )
