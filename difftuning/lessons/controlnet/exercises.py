"""The exercise of lesson 08: find the sudden convergence in a noisy curve."""

from __future__ import annotations

from typing import Callable, Sequence

from ...evaluation.agreement import sudden_convergence_step
from ..exercises import Grade, exercise
from .curves import noisy_curve

Curve = tuple[list[int], list[float], float, int]  # steps, scores, threshold, k
_STEPS = list(range(0, 200, 20))
CURVES: list[tuple[str, Curve]] = [
    ("a clean jump", (*noisy_curve(240, noise=0), 0.5, 3)),
    ("a noisy jump", (*noisy_curve(300), 0.5, 3)),
    ("a jump after single high checks", (*noisy_curve(360, peaks=(100, 200)), 0.5, 3)),
    ("a curve that never rises", (*noisy_curve(10_000), 0.5, 3)),
    ("a curve with its last two checks high", (*noisy_curve(560, noise=0.05), 0.5, 3)),
    ("a curve with its last three checks high", (*noisy_curve(540, noise=0.05), 0.5, 3)),
    ("a curve that stays at the threshold", (_STEPS, [0.1] * 4 + [0.5] * 6, 0.5, 2)),
    ("a curve that falls again", (_STEPS, [0.1, 0.2, 0.1, 0.9, 0.9, 0.9, 0.1, 0.1, 0.2, 0.1], 0.5, 3)),
    ("a curve held for five checks", (*noisy_curve(200, peaks=(60, 80), seed=1), 0.4, 5)),
]


@exercise("sudden convergence")
def sudden_convergence(answer: Callable) -> Grade:
    """answer(steps, scores, threshold, k) -> the first step from which k scores in a row are above the threshold; None where there is none."""
    found = [answer(list(steps), list(scores), threshold, k) for _, (steps, scores, threshold, k) in CURVES]
    if all(step is None or step is ... for step in found):
        raise NotImplementedError
    wrong = [number for number, step in enumerate(found) if not _same(step, _truth(*CURVES[number][1]))]
    if not wrong:
        return Grade(True, "exact")
    name, curve = CURVES[wrong[0]]
    message = f"{len(wrong)} of {len(CURVES)} curves are wrong; {name} (k = {curve[3]}) converges at {_truth(*curve)}, yours says {found[wrong[0]]}"
    return Grade(False, message + _hint(found))


def _truth(steps: Sequence[int], scores: Sequence[float], threshold: float, k: int) -> int | None:
    return sudden_convergence_step(steps, scores, threshold=threshold, k=k)


def _hint(found: Sequence[object]) -> str:
    """What the answer does instead, where that is a usual mistake."""
    mistakes: dict[str, Callable[..., int | None]] = {
        "that is the first high score, which noise reaches, too: it has to hold for k checks": lambda s, y, at, k: _truth(s, y, at, 1),
        "that is the last of the k checks, and it began at the first of them": _last_of_them,
        "a score at the threshold is not above it": lambda s, y, at, k: _truth(s, [score + 1e-9 for score in y], at, k),
        "the last k checks may be the ones that hold": lambda s, y, at, k: _truth(s[:-1], y[:-1], at, k),
    }
    for what, mistaken in mistakes.items():
        if all(_same(step, mistaken(*curve)) for step, (_, curve) in zip(found, CURVES)):
            return f"; {what}"
    return ""


def _last_of_them(steps: Sequence[int], scores: Sequence[float], threshold: float, k: int) -> int | None:
    first = _truth(steps, scores, threshold, k)
    return None if first is None else steps[steps.index(first) + k - 1]


def _same(step: object, truth: int | None) -> bool:
    return step is truth if step is None or truth is None else bool(step == truth)
