"""Counter-experiments (study "parts"): what should not work, beside plain fine-tuning and beside Diff-Tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..knobs import new_word, old_word
from ..numerals import listed
from ..parts import BETTER, SAME, WORSE, Parts
from .runs import OURS, PLAIN

if TYPE_CHECKING:
    import pandas

CONTROLS = {
    "weightings swapped": "the new pictures mostly at the data end, the bank mostly at the noise end",
    "bank of noise": "random numbers in the bank's places",
    "reconsolidation only": "no bank at all",
    "bank of target pictures": "the new pictures themselves as a bank",
    "bank of real pictures": "real pictures of the source, which the method claims not to need",
}


def controls_table(parts: Parts) -> pandas.DataFrame:
    """A row for Diff-Tuning and for each control: new samples and old pictures in words, and on how many sets it was run."""
    import pandas

    rows = {}
    for method in parts.present([OURS, *CONTROLS]):
        row = {("beside plain fine-tuning", side): ask(parts, method, PLAIN) for side, ask in SIDES.items()}
        row |= {("beside Diff-Tuning", side): ask(parts, method, OURS) if method != OURS else "–" for side, ask in SIDES.items()}
        rows[method] = row | {("run on", "sets"): " and ".join(ran_on(parts, method))}
    return pandas.DataFrame(rows).T


SIDES = {"new samples": new_word, "old pictures": old_word}
SAID = {
    "worse, at least in some settings": (WORSE, "partly worse"),
    "better in some settings and worse in others": ("mixed",),
    "better, at least in some settings": (BETTER, "partly better"),
    SAME: (SAME,),
}


def ran_on(parts: Parts, method: str) -> list[str]:
    """The tasks whose tables hold a method."""
    return [task for task in parts.tasks if ((parts.losses.task == task) & (parts.losses.method == method)).any()]


def controls_in_words(parts: Parts) -> str:
    """Markdown: beside Diff-Tuning, which controls are worse, better and the same; a line for each side."""
    lines = []
    for side, ask in SIDES.items():
        found = {name: ask(parts, name, OURS) for name in parts.present(CONTROLS)}
        groups = {said: [name for name, word in found.items() if word in words] for said, words in SAID.items()}
        lines.append(
            f"- *{side.capitalize()}* beside Diff-Tuning's: "
            + "; ".join(f"{said}: {listed(names)}" for said, names in groups.items() if names)
        )
    return ".\n".join(lines) + "."
