"""Which method to take: those that no other clearly beats on both sides, from the best new samples to the best kept old pictures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ...studies.gains import Estimate
from ..numerals import numeral
from ..parts import ALIKE, GUIDANCES, KEPT, SAME, Parts, log_score, ratios
from ..tuning.plane import Place, beats, front
from .effects import ENDING, LEAST_RISE, measured, pair
from .tables import is_mergeable, trained_share
from .variants import FULL

if TYPE_CHECKING:
    import pandas

    from ...models.pretrained import Pretrained

GUIDANCE = "1.5"  # of the samples that a choice is made by
MARGINS = -math.log(1 - KEPT), ALIKE  # of the rise in the loss on old pictures, and of a distance: less is no difference
CALLED = {"plain": f"{FULL}, plainly", "Diff-Tuning": FULL + ENDING}


def sides(parts: Parts) -> dict[str, tuple[float, float]]:
    """Each method -> Frechet distance, and loss on old pictures after / before: geometric means over the sets."""
    return {
        method: (
            _distance(parts, method, GUIDANCE),
            float(np.exp(np.mean([ratios(parts, task, "source", method).mean for task in parts.tasks]))),
        )
        for name in [FULL, *measured(parts)]
        for method in pair(name)
    }


def best(parts: Parts) -> dict[str, list[str]]:
    """The methods that none of these beats by the lesson's rule, in the order of their samples -> those that are about the same on both sides.

    First the Pareto front; then those that are beaten by a beaten method alone, as differences within the margins can add up.
    """
    found = sides(parts)
    places = {method: Place(*(Estimate(math.log(side), 0.0, 1) for side in (max(kept - 1, LEAST_RISE), distance)))
              for method, (distance, kept) in found.items()}  # fmt: skip
    kept = front(places, MARGINS)
    for method in sorted(places, key=found.__getitem__):
        if method not in kept and not any(beats(places[other], places[method], MARGINS) for other in kept):
            kept.append(method)
    kept.sort(key=found.__getitem__)
    return {method: [other for other in places if other != method and _are_alike(places[method], places[other])] for method in kept}


def choices(parts: Parts, pretrained: Pretrained, classes: int) -> pandas.DataFrame:
    """A row for each of `best`: what is trained of a model with so many new classes, both sides, and what is about the same."""
    import pandas

    found = sides(parts)
    rows = {
        CALLED.get(method, method): {
            f"trained weights ({classes} label rows counted)": f"{100 * trained_share(pretrained, _without(method), classes):.1f} %",
            "can be merged": {True: "yes", False: "no", None: "–"}[is_mergeable(pretrained, _without(method))],
            **{f"Frechet distance at guidance {way}": f"{_distance(parts, method, way):.2f}" for way in reversed(GUIDANCES)},
            "loss on old pictures, after / before": f"{found[method][1]:.2f}",
            SAME: "; ".join(CALLED.get(other, other) for other in alike) or "–",
        }
        for method, alike in best(parts).items()
    }
    table = pandas.DataFrame(rows).T
    return table if (table[SAME] != "–").any() else table.drop(columns=SAME)


def choices_in_words(parts: Parts) -> str:
    """Markdown: a rule of one sentence, what the first step down the table costs and brings, and who is not in it."""
    found, kept = sides(parts), best(parts)
    alike = {other for others in kept.values() for other in others}
    dropped = [method for name in [FULL, *measured(parts)] for method in pair(name) if method not in kept and method not in alike]
    out = (
        "The others drop out. Beside each of them one in the table is better on one side and not worse on the other: "
        f"{_listed(dropped, measured(parts))}."
    )
    first, *rest = kept
    if not rest:
        return f"**Take {CALLED.get(first, first)}:** by our rule no other is better on either side without being worse on the other. {out}"
    (near, lost), (far, less) = found[first], found[rest[0]]
    step = (
        f"From the first row to the second, the Frechet distance at guidance {GUIDANCE} grows by {100 * (far / near - 1):.0f} %, and the rise of the "
        f"loss on old pictures goes from {100 * (lost - 1):.0f} % to {100 * (less - 1):.0f} %."
    )
    return f"**Take the highest row that keeps as much of the old as you need.** {step}\n\n{out}"


def _distance(parts: Parts, method: str, guidance: str) -> float:
    return float(np.exp(np.mean([log_score(parts, task, method, guidance).mean for task in parts.tasks])))


def _are_alike(one: Place, other: Place) -> bool:
    return all(abs(a.mean - b.mean) <= margin for a, b, margin in zip(one, other, MARGINS))


def _without(method: str) -> str:
    """The adapter, or all weights, that a method trains."""
    return FULL if method in CALLED else method.removesuffix(ENDING)


def _listed(methods: list[str], names: list[str]) -> str:
    """Methods by name, the adapters without Diff-Tuning together where they are all among them."""
    if set(names) <= set(methods):
        alone = f"all {numeral(len(names))} adapters without Diff-Tuning"
        methods = [alone if method == names[0] else method for method in methods if method not in names[1:]]
    return "; ".join(CALLED.get(method, method) for method in methods)
