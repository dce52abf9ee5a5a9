"""Words of lessons 04 and 05 for what the study "parts" shows: they hold for one set or both, and for any number of seeds."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Callable, Sequence

from .parts import (
    ALIKE,
    BETTER,
    GUIDANCES,
    KEPT,
    LEAST_SEEDS,
    SAME,
    WORSE,
    Parts,
    distance_saved,
    in_a_word,
    new_samples,
    old_pictures,
    seeds,
)

if TYPE_CHECKING:
    from ..studies.gains import Estimate

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "last")  # tenths of the chain
SAMPLES = {  # "the new samples are ..."
    "better": "better", "partly better": "better in some settings and no worse in the others", "about the same": "about as good",
    "worse": "worse", "partly worse": "worse in some settings and no better in the others", "mixed": "better in some settings and worse in others",
}  # fmt: skip
OLD = {
    "better": "more of the old is kept", "partly better": "more of the old is kept on one of the sets", "about the same": "no more of the old is kept",
    "worse": "less of the old is kept", "partly worse": "less of the old is kept on one of the sets",
    "mixed": "more of the old is kept on one set and less on the other",
}  # fmt: skip
MEANT = (
    f"(A *setting* is one set at one guidance. New samples less than {100 * ALIKE:.0f} % apart count as equally good. *More is kept*: the mean rise of "
    f"the loss on old pictures is lower by {100 * KEPT:.0f} % at least.)"
)


def samples_in_words(parts: Parts, method: str, other: str = "plain") -> str:
    """The new samples of a method "are ..." beside another's."""
    return SAMPLES[new_samples(parts, method, other)]


def kept_in_words(parts: Parts, method: str, other: str = "plain") -> str:
    """How much of the old a method keeps beside another."""
    return OLD[old_pictures(parts, method, other)]


def where_sets_differ(parts: Parts, words: Callable[[Parts], str]) -> str:
    """The sets' own answers in brackets, where they are not all the same; "" elsewhere."""
    found = {task: words(of_set(parts, task)) for task in parts.tasks}
    return f" ({'; '.join(f'{task}: {word}' for task, word in found.items())}.)" if len(set(found.values())) > 1 else ""


def of_set(parts: Parts, task: str) -> Parts:
    """One set alone."""
    return Parts(*(table[table.task == task] for table in (parts.scores, parts.losses)), parts.floors)


def beside(parts: Parts, methods: Sequence[str], other: str) -> str:
    """Markdown, a table: for each set and guidance, which methods' samples are better or worse than another's, and what counts as a difference."""
    lines = [f"| samples beside those of {other} | better | about the same | worse |", "|---|---|---|---|"]
    for task, guidance in itertools.product(parts.tasks, GUIDANCES):
        groups: dict[str, list[str]] = {BETTER: [], SAME: [], WORSE: []}
        for method in parts.present(methods):
            gain: Estimate = distance_saved(parts, task, method, other, guidance)
            if gain.seeds:
                groups[in_a_word([gain], ALIKE)].append(method)
        lines.append(f"| {task}, guidance {guidance} | " + " | ".join("; ".join(names) or "–" for names in groups.values()) + " |")
    within = ", or within the 95 % interval of the difference," if seeds(parts)[1] >= LEAST_SEEDS else ""
    return "\n".join(lines) + f"\n\n(Less than {100 * ALIKE:.0f} % apart{within} is called the same.)"


def longest_run(holds: Sequence[bool]) -> list[int]:
    """The longest stretch of tenths, numbered from 1, at which something holds; the first of equally long ones."""
    runs = [[place for place, _ in run] for held, run in itertools.groupby(enumerate(holds, 1), key=lambda entry: entry[1]) if held]
    return max(runs, key=len, default=[])


def stretch_in_words(tenths: Sequence[int]) -> str:
    """ "from the first to the eighth tenth", "in the last tenth", "all along the chain", "nowhere"."""
    if len(tenths) == len(ORDINALS):
        return "all along the chain"
    if len(tenths) < 2:
        return f"in the {ORDINALS[tenths[0] - 1]} tenth" if tenths else "nowhere"
    return f"from the {ORDINALS[tenths[0] - 1]} to the {ORDINALS[tenths[-1] - 1]} tenth"
