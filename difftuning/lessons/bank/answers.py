"""What the runs of lesson 05 answer, in words that follow the tables: a bank that is not there is not spoken of."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from ...data.tasks import load_task
from ...studies.banks import FAR_KIND, bank_of_far_classes
from ..parts import KEPT, TENTHS, Parts, new_samples, old_pictures, ratio, rise_avoided

WITHOUT = "reconsolidation only"
BANKS = {
    "bank of noise": "random numbers with the mean and spread of latents. They take the same 6 of 32 places, at the same timesteps and with the "
    "same weight; only the content is gone",
    "bank of 100": "the first hundred pictures of the shipped bank",
    "bank of far classes": "the shipped bank's pictures of one kind alone, which is unlike the task: {far}. Must a bank show all kinds?",
    "bank as small, all classes": "as many pictures as that, of all kinds",
    "Diff-Tuning": "the shipped bank, a thousand pictures of all kinds",
    "bank of target pictures": "the new pictures themselves, replayed as if they were memories",
    "bank of real pictures": "a thousand real pictures in place of the model's own",
}
ROW_NAMES = {"Diff-Tuning": "shipped bank, 1,000"}
LABELS = ("the null label", "their own labels", "neither: there is hardly a difference")
SHARES = {"hardly any of it": 0.1, "less than half": 0.5, "more than half": 0.9, "nearly all of it": np.inf}  # up to
FRACTIONS = {"a tenth": 1 / 10, "a fifth": 1 / 5, "a quarter": 1 / 4, "a third": 1 / 3, "two fifths": 2 / 5, "half": 1 / 2,
             "three fifths": 3 / 5, "two thirds": 2 / 3, "three quarters": 3 / 4, "four fifths": 4 / 5, "nine tenths": 9 / 10}  # fmt: skip
FIRST, MIDDLE = [1], [4, 5, 6]  # tenths of the chain


def banks_in_words(parts: Parts) -> str:
    """Markdown: a line for each bank that the tables hold."""
    far = " and ".join(f"{len(bank_of_far_classes(load_task(task)))} {FAR_KIND[task]}s for {task}" for task in parts.tasks)
    return "\n".join(f"- *{name}*: {BANKS[name].format(far=far).rstrip('.')}." for name in parts.present(BANKS)).replace("?.", "?")


def avoided_by_hand(parts: Parts) -> str:
    """How a bar of protection comes about, on the first set of the tables."""
    task = parts.tasks[0]
    without, ours = (round(ratio(parts, task, "source", method), 2) for method in (WITHOUT, "Diff-Tuning"))
    share = 100 * rise_avoided(parts, task, "Diff-Tuning", WITHOUT).mean
    return (
        f"{task}: without a bank the loss rises to {without:.2f} times what it was, with the shipped one to {ours:.2f} times. "
        f"Of a rise of {without - 1:.2f} it avoids {without - ours:.2f}, or about {share:.0f} %."
    )


def noise_and_memories(parts: Parts) -> str:
    """Where on the chain noise avoids how much of the rise, and what the runs say of the memories' quality."""
    first, middle = (100 * _avoided(parts, "bank of noise", tenths) for tenths in (FIRST, MIDDLE))
    far = "far better" if share_of_noise(parts) < SHARES["less than half"] else "better" if share_of_noise(parts) < 1 else "no better"
    return (
        f"Random numbers avoid {first:.0f} % of the rise in the first tenth, and {middle:.0f} % in tenths four to six. "
        f"Memories protect {far}, and poor ones at that. {_real_ones(parts)}"
    )


def _real_ones(parts: Parts) -> str:
    if not parts.present(["bank of real pictures"]):
        return "What real pictures in their place would do we have not run."
    found = old_pictures(parts, "bank of real pictures", "Diff-Tuning")
    words = {"better": "better still", "worse": "less", "about the same": "about as well"}
    return f"Real pictures in their place protect {words.get(found, 'better or less, by the task')}."


def share_of_memories(parts: Parts, method: str) -> float:
    """How much of the protection that the shipped bank gives another one gives; mean over the sets."""
    return _avoided(parts, method) / _avoided(parts, "Diff-Tuning")


def share_of_noise(parts: Parts) -> float:
    """The same of a bank of noise."""
    return share_of_memories(parts, "bank of noise")


def fraction_in_words(share: float) -> str:
    """The simple fraction that is nearest."""
    return min(FRACTIONS, key=lambda words: abs(FRACTIONS[words] - share))


def noise_in_words(parts: Parts) -> str:
    """Which of `SHARES` that is."""
    return next(words for words, most in SHARES.items() if share_of_noise(parts) < most)


def labels_in_words(parts: Parts) -> str:
    """Which of `LABELS` avoid more of the rise in the loss on old pictures; mean over the sets."""
    null, own = (_avoided(parts, method) for method in ("Diff-Tuning", "Diff-Tuning, own labels"))
    return LABELS[2] if abs(own - null) < KEPT else LABELS[1] if own > null else LABELS[0]


def answer_in_words(parts: Parts) -> str:
    """The lesson's answer in Markdown: one bold sentence, which speaks of old pictures and of new samples."""
    share = fraction_in_words(share_of_noise(parts))
    old = {
        "hardly any of it": "It must hold memories: random numbers avoid hardly any of the forgetting that memories avoid",
        "less than half": f"It must hold memories: random numbers avoid about {share} of the forgetting that memories avoid",
        "more than half": f"Only in part: random numbers avoid about {share} of the forgetting that memories avoid",
        "nearly all of it": "No: random numbers avoid nearly as much forgetting as memories",
    }[noise_in_words(parts)]
    new = {
        "better": "The new samples are even better with random numbers",
        "worse": "The new samples, too, are better with memories",
    }.get(new_samples(parts, "bank of noise", "Diff-Tuning"), "The new samples show no clear difference between the two")
    poor = "" if old.startswith("No") else " Poor memories help."
    return f"**{old}.{poor} {new}.**"


def number_or_kind(parts: Parts) -> str:
    """What the runs say of how many pictures a bank needs and of which classes."""
    if not parts.present(["bank as small, all classes"]):
        return (
            "How many pictures, and of which classes? The small banks protect less than the full one. But the bank of far classes is smaller, "
            "too, so these runs cannot separate number from kind."
        )
    found = old_pictures(parts, "bank of far classes", "bank as small, all classes")
    words = {"worse": "less: the classes count", "better": "more", "about the same": "about as much: the classes count little"}
    return (
        "How many pictures, and of which classes? Beside as many pictures of all kinds, far classes alone protect "
        f"{words.get(found, 'differently from task to task')}."
    )


def labels_and_new_samples(parts: Parts) -> str:
    """What own labels do to the new samples, beside the null label."""
    found = new_samples(parts, "Diff-Tuning, own labels", "Diff-Tuning")
    words = {
        "better": "With own labels the new samples are better, too.",
        "worse": "With own labels the new samples are worse: they pay for it.",
    }
    return words.get(found, "Own labels or the null label: the new samples show no clear difference.")


def _avoided(parts: Parts, method: str, tenths: Sequence[int] = TENTHS) -> float:
    return float(np.mean([rise_avoided(parts, task, method, WITHOUT, tenths).mean for task in parts.tasks]))
