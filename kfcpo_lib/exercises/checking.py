"""How a check speaks: one line, a tick or a cross, and a sentence that helps."""

from collections.abc import Callable, Mapping
from functools import partial, update_wrapper
from typing import Any

import numpy as np
import torch


class Wrong(Exception):
    """What is wrong with an answer, in one sentence that helps to mend it."""


NOT_SOLVED = "not solved yet."


class Check:
    """A check as a notebook calls it: prints one line, returns whether the answer is right."""

    def __init__(self, name: str, judge: Callable[..., None]) -> None:
        update_wrapper(self, judge)
        self.name = name
        self.judge = judge

    def __call__(self, *answers: Any) -> bool:
        """Print the verdict on a student's answers."""
        verdict = self.verdict(*answers)
        print(f"✔ {self.name}: right." if verdict is None else f"✘ {self.name}: {verdict}")
        return verdict is None

    def verdict(self, *answers: Any) -> str | None:
        """What is wrong with the answers, in one sentence; None if they are right."""
        try:
            self.judge(*answers)
        except Wrong as wrong:
            return str(wrong)
        except NotImplementedError:
            return NOT_SOLVED
        except Exception as error:  # whatever the student's code does, the notebook goes on
            return f"your function stopped with {type(error).__name__}: {error}"
        return None


def exercise(name: str) -> Callable[[Callable[..., None]], Check]:
    """Turn a function that raises `Wrong` into a check.

    A stub that still returns None, or raises NotImplementedError, is "not solved yet"; any other
    exception of the student's code is told in words.
    """
    return partial(Check, name)


def solved(value: Any) -> Any:
    """The student's value; a stub's None counts as not solved yet."""
    if value is None:
        raise NotImplementedError
    return value


def close(value: Any, expected: Any, tolerance: float = 1e-6) -> bool:
    """Whether two arrays, tensors or numbers have one shape and agree to a relative tolerance."""
    left, right = _array(value), _array(expected)
    if left.shape != right.shape:
        return False
    scale = max(1.0, float(np.abs(right).max(initial=0.0)))
    return bool(np.allclose(left, right, rtol=0.0, atol=tolerance * scale))


def same_shape(value: Any, expected: Any, what: str) -> None:
    """Raise `Wrong` that names both shapes if they differ."""
    found, wanted = _array(value).shape, _array(expected).shape
    if found != wanted:
        raise Wrong(f"{what} should have the shape {wanted}, yours has {found}.")


def name_the_slip(answer: Any, slips: Mapping[str, Any], tolerance: float = 1e-6) -> None:
    """Raise `Wrong` with the sentence of the usual mistake whose numbers the answer has."""
    for sentence, numbers in slips.items():
        if close(answer, numbers, tolerance):
            raise Wrong(sentence)


def _array(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().double().numpy()
    return np.asarray(value, dtype=float)
