"""Which method to take: those that no other beats on both sides, from the best new samples to the best kept old pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..parts import Parts, ratios, score
from .effects import ENDING, measured, pair
from .learning import NUMBERS
from .memory import FULL
from .tables import trained_share

if TYPE_CHECKING:
    import pandas

    from ...models.pretrained import Pretrained

GUIDANCE = "1.5"  # of the samples that a choice is made by
CALLED = {"plain": f"{FULL}, plainly", "Diff-Tuning": FULL + ENDING}


def undominated(parts: Parts) -> dict[str, tuple[float, float]]:
    """The methods that no other beats on both sides -> Frechet distance, and loss on old pictures after / before: geometric means over the sets."""
    sides = {method: _sides(parts, method) for name in [FULL, *measured(parts)] for method in pair(name)}
    beaten = {one for one in sides for other in sides if other != one and all(b <= a for a, b in zip(sides[one], sides[other]))}
    return dict(sorted(((method, both) for method, both in sides.items() if method not in beaten), key=lambda item: item[1]))


def choices(parts: Parts, pretrained: Pretrained, classes: int) -> pandas.DataFrame:
    """A row for each of `undominated`: what is trained of a model with so many new classes, and both sides."""
    import pandas

    rows = {
        CALLED.get(method, method): {
            "trained weights": f"{100 * trained_share(pretrained, _without(method), classes):.1f} %",
            f"Frechet distance at guidance {GUIDANCE}": f"{distance:.2f}",
            "loss on old pictures, after / before": f"{ratio:.2f}",
        }
        for method, (distance, ratio) in undominated(parts).items()
    }
    return pandas.DataFrame(rows).T


def choices_in_words(parts: Parts) -> str:
    """Markdown: a rule of one sentence, what the first step down the table costs and brings, and who is not in it."""
    found = undominated(parts)
    dropped = [method for name in [FULL, *measured(parts)] for method in pair(name) if method not in found]
    out = (
        f"The others drop out, for beside each of them one of these has better samples and keeps more: {_listed(dropped, measured(parts))}."
    )
    (first, (near, lost)), *rest = found.items()
    if not rest:
        return f"**Take {CALLED.get(first, first)}:** it has the best new samples and keeps most of the old. {out}"
    far, kept = rest[0][1]
    step = (
        f"From the first row to the second, the Frechet distance grows by {100 * (far / near - 1):.0f} %, and the rise of the loss on old pictures "
        f"falls from {100 * (lost - 1):.0f} % to {100 * (kept - 1):.0f} %."
    )
    return f"**Take the highest row that keeps as much of the old as you need.** {step}\n\n{out}"


def _sides(parts: Parts, method: str) -> tuple[float, float]:
    distances = [np.log(score(parts, task, method, GUIDANCE).mean) for task in parts.tasks]
    return float(np.exp(np.mean(distances))), float(np.exp(np.mean([ratios(parts, task, "source", method).mean for task in parts.tasks])))


def _without(method: str) -> str:
    """The adapter, or all weights, that a method trains."""
    return FULL if method in CALLED else method.removesuffix(ENDING)


def _listed(methods: list[str], names: list[str]) -> str:
    """Methods by name, the adapters without Diff-Tuning together where they are all among them."""
    if set(names) <= set(methods):
        alone = f"all {NUMBERS[len(names)]} adapters without Diff-Tuning"
        methods = [alone if method == names[0] else method for method in methods if method not in names[1:]]
    return "; ".join(CALLED.get(method, method) for method in methods)
