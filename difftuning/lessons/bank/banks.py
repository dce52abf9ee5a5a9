"""The banks that lesson 05 compares, and what they are called."""

from __future__ import annotations

from ...data.tasks import load_task
from ...studies.banks import FAR_KIND, bank_of_far_classes
from ..parts import Parts

WITHOUT, SHIPPED, OWN = "reconsolidation only", "Diff-Tuning", "Diff-Tuning, own labels"
NOISE, NEW, REAL = "bank of noise", "bank of target pictures", "bank of real pictures"
BANKS = {  # two controls, then memories
    NOISE: "random numbers with the mean and spread of latents. They take the same 6 of 32 places, at the same timesteps and with the same weight; "
    "only the content is gone",
    NEW: "the new pictures themselves, replayed as if they were memories",
    "bank of far classes": "the shipped bank's pictures of one kind alone, which is unlike the task: {far}. Must a bank show all kinds?",
    "bank as small, all classes": "as many of its pictures, but of all kinds: to compare with the bank of far classes",
    SHIPPED: "the shipped bank of memories, a thousand pictures of all kinds",
    REAL: "a thousand real pictures in place of the model's own",
}
NAMES = {NEW: "bank of new pictures"}  # where not as in the tables


def banks_in_words(parts: Parts) -> str:
    """Markdown: a line for each bank that the tables hold."""
    far = " and ".join(f"{len(bank_of_far_classes(load_task(task)))} {FAR_KIND[task]}s for {task}" for task in parts.tasks)
    lines = (f"- *{NAMES.get(name, name)}*: {BANKS[name].format(far=far)}." for name in parts.present(BANKS))
    return "\n".join(lines).replace("?.", "?")
