"""Diff-Tuning's settings one at a time (study "sweeps"): what each does to new samples and to old pictures."""

from __future__ import annotations

from typing import Mapping, NamedTuple, Sequence

from .numerals import listed
from .parts import BETTER, MIXED, SAME, WORSE, Parts, in_a_table, new_samples, old_losses

OURS, PLAIN = "Diff-Tuning", "plain"


class Knob(NamedTuple):
    """A setting: line -> value -> the method that has it; the default value is Diff-Tuning itself."""

    lines: Mapping[str, Mapping[float, str]]
    default: float
    logarithmic: bool = True

    @property
    def others(self) -> list[tuple[str, str]]:
        """(value as a word, method) of all values but the default, which a second family has, too."""
        return [
            (f"{value:g}{f' ({line})' if line else ''}", method)
            for line, values in self.lines.items()
            for value, method in values.items()
            if value != self.default
        ]


KNOBS = {
    "tau": Knob(
        {
            "official": {0: "tau 0, official", 0.5: "tau 0.5, official", 1: OURS, 2: "tau 2, official"},
            "paper": {0.5: "tau 0.5, paper", 1: "tau 1, paper", 2: "tau 2, paper"},
        },
        default=1,
        logarithmic=False,
    ),
    "bank size": Knob({"": {30: "bank of 30", 100: "bank of 100", 300: "bank of 300", 1000: OURS}}, default=1000),
    "bank share": Knob({"": {0.1: "bank share 0.1", 0.2: OURS, 0.4: "bank share 0.4"}}, default=0.2),
    "bank weight": Knob(
        {"": {0.03: "Diff-Tuning, weight 0.03", 0.1: OURS, 0.3: "Diff-Tuning, weight 0.3", 1: "Diff-Tuning, weight 1"}}, default=0.1
    ),
}


def compared(parts: Parts, knob: str) -> dict[str, tuple[str, str]]:
    """Value -> (new samples, old pictures) beside the default, for the values that were run."""
    return {value: (new_samples(parts, method, OURS), old_losses(parts, method, OURS))
            for value, method in KNOBS[knob].others if parts.present([method])}  # fmt: skip


def sets_run(parts: Parts, *knobs: str) -> list[str]:
    """The tasks of which the tables hold a value beside the default."""
    methods = [method for knob in knobs for _, method in KNOBS[knob].others]
    return [task for task in parts.tasks if parts.losses[parts.losses.task == task].method.isin(methods).any()]


def knob_table(parts: Parts, *knobs: str) -> str:
    """Markdown, a table: what each value that was run does to new samples and to old pictures, beside the default."""
    lines = [f"| compared with Diff-Tuning, on {' and '.join(sets_run(parts, *knobs))} | new samples | old pictures |", "|---|---|---|"]
    for knob in knobs:
        lines += [f"| {knob} {value} | {in_a_table(new)} | {in_a_table(old)} |" for value, (new, old) in compared(parts, knob).items()]
    mixed = any(MIXED in words for knob in knobs for words in compared(parts, knob).values())
    meant = "\n\n(*Mixed*: the mean is about the same, yet some comparisons are clearly better and others clearly worse.)" if mixed else ""
    return "\n".join(lines) + meant


def knob_in_words(parts: Parts, knob: str) -> str:
    """A sentence: which values beat the default, and where the old pictures are kept better or worse; "" where none was run."""
    words = compared(parts, knob)
    if not words:
        return ""
    winners = [value for value, (new, _) in words.items() if new == BETTER]
    new = f"The new samples get better with {knob} {_either(winners)}" if winners else f"No other {knob} makes the new samples better"
    if all(old == SAME for _, old in words.values()):
        return f"{new}, and the old pictures are kept about as well with each."
    how = {BETTER: "better", WORSE: "less well", MIXED: "better on one set and less well on the other"}
    kept = {told: [value for value, (_, old) in words.items() if old == word] for word, told in how.items()}
    told = [f"{told} with {_either(values)}" for told, values in kept.items() if values]
    return f"{new}; the old pictures are kept {listed(told)}." if told else f"{new}."


def _either(values: Sequence[str]) -> str:
    """ "0.1", "0.5 or 2"."""
    return " or ".join(values)
