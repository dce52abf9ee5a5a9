"""Exercises that grade themselves: exact, close, or where it is wrong and by how much.

    grade("retention distribution", my_distribution)      # -> "exact", or "timestep 0: 0.001 instead of 0.002 ..."

Every exercise is a function that calls the reader's own and compares it with the truth; it may
be asked as often as one likes, and an answer that is not there yet is a message, not an error.

The checkers stand in the lessons' folders, in an exercises.py each, and are found there by
themselves:

    # weights/exercises.py
    @exercise("retention distribution")
    def retention_distribution(answer):
        return compare(answer(1000, 1.0), timestep_distribution(1000, 1.0, descending=True))

A lesson's stub returns `...` or None, and its solution stands in notebooks/solutions under the
lesson's own name, with `assert grade("retention distribution", ...).passed`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import pkgutil
from dataclasses import dataclass
from typing import Any, Callable

import torch
from torch import Tensor

from ..support.options import require_choice

CLOSE = 1e-3  # relative: as near as float32 or another order of sums may lead
EXACT = 1e-6


@dataclass(frozen=True)
class Grade:
    """What became of an answer; shows itself as one line."""

    passed: bool
    message: str

    def __repr__(self) -> str:
        return f"{'✓' if self.passed else '✗'} {self.message}"


NOT_WRITTEN = Grade(False, "not written yet: replace the last line of the function with your own")
EXERCISES: dict[str, Callable[[Callable], Grade]] = {}


def exercise(name: str) -> Callable[[Callable[[Callable], Grade]], Callable[[Callable], Grade]]:
    """Register a checker under the name that lessons call it by."""

    def register(checker: Callable[[Callable], Grade]) -> Callable[[Callable], Grade]:
        EXERCISES[name] = checker
        return checker

    return register


def grade(name: str, answer: Callable) -> Grade:
    """Grade the reader's function `answer` for the exercise `name`."""
    load_checkers()
    require_choice("exercise", name, EXERCISES)
    if not callable(answer):
        return Grade(False, f"hand over your function itself, not its value ({type(answer).__name__})")
    try:
        return EXERCISES[name](answer)
    except NotImplementedError:
        return NOT_WRITTEN
    except Exception as error:  # whatever the reader's code raises is theirs to read, on one line
        return Grade(False, f"your function raised {type(error).__name__}: {error}")


@functools.cache
def load_checkers() -> None:
    """Import the lessons' checkers, once; not before the first answer, for they import this module."""
    package = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(package.__path__):
        checkers = f"{__package__}.{module.name}.exercises"
        if module.ispkg and importlib.util.find_spec(checkers):
            importlib.import_module(checkers)


def written(*values: Any) -> None:
    """Stop the grading where the reader's function has not been written yet."""
    if any(value is None or value is ... for value in values):
        raise NotImplementedError


def compare(found: Any, expected: Tensor, *, place: Callable[[int], str] = "timestep {}".format, separate: bool = False) -> Grade:
    """Number by number: exact, close, or the worst place with both values there.

    `place` names an index of the flattened numbers, such as "timestep 40".  `separate`: every error
    is held against its own number, as for answers to separate cases; otherwise against the largest.
    """
    written(found)
    found = torch.as_tensor(found).detach().double()
    expected = expected.double()
    if found.shape != expected.shape:
        return Grade(False, f"the shape is {tuple(found.shape)}, it should be {tuple(expected.shape)}")
    wrong = ~found.isfinite()
    if wrong.any():
        index = int(wrong.flatten().nonzero()[0])
        return Grade(False, f"{place(index)} is {float(found.flatten()[index])}")
    largest = expected.abs().max().clamp(min=1e-12)
    scale = torch.where(expected == 0, largest, expected.abs()) if separate else largest
    errors = ((found - expected).abs() / scale).flatten()
    worst = int(errors.argmax())
    if errors[worst] <= EXACT:
        return Grade(True, "exact")
    here = f"{place(worst)} is {float(found.flatten()[worst]):.6g}, it should be {float(expected.flatten()[worst]):.6g}"
    if errors[worst] <= CLOSE:
        return Grade(True, f"close: at worst {here}")
    ratio = found.sum() / expected.sum() if expected.sum() else torch.tensor(torch.nan)
    hint = ""
    if float(ratio) and torch.allclose(found, expected * ratio, rtol=1e-4, atol=1e-12 * float(largest)):
        size = abs(float(ratio))
        factor = f"every number is {size:.4g} times too large" if size > 1 else f"every number is {1 / size:.4g} times too small"
        hint = "; " + " and ".join([factor] * (abs(size - 1) > 1e-4) + ["every sign is reversed"] * (float(ratio) < 0))
    elif torch.allclose(found, expected.flip(0), rtol=1e-4):
        hint = "; it is the mirror image of what it should be"
    return Grade(False, f"{int((errors > CLOSE).sum())} of {errors.numel()} are wrong; {here}{hint}")
