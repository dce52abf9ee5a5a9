"""What the runs of lesson 05 answer, in words that follow the tables: a bank that is not there is not spoken of."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from ...data.tasks import load_task
from ...studies.banks import FAR_KIND, bank_of_far_classes
from ..parts import KEPT, TENTHS, Parts, new_samples, old_pictures, ratio, rise_avoided
from ..parts_words import ORDINALS, SAMPLES, longest_run, samples_in_words, stretch_in_words

WITHOUT, OWN, REAL = "reconsolidation only", "Diff-Tuning, own labels", "bank of real pictures"
PAIR = ("bank of noise", "Diff-Tuning")  # the control and what it is for
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
PROTECT = {
    "better": "better", "partly better": "better on one of the sets", "about the same": "about as well", "worse": "less",
    "partly worse": "less on one of the sets", "mixed": "better on one set and less on the other",
}  # fmt: skip
FIRST, MIDDLE = [1], [4, 5, 6]  # tenths of the chain
CLEAR, MEET, HELD = 1.05, 1.15, 0.2  # one loss is clearly above another, lines nearly meet, a loss is held


def banks_in_words(parts: Parts) -> str:
    """Markdown: a line for each bank that the tables hold."""
    far = " and ".join(f"{len(bank_of_far_classes(load_task(task)))} {FAR_KIND[task]}s for {task}" for task in parts.tasks)
    return "\n".join(f"- *{name}*: {BANKS[name].format(far=far).rstrip('.')}." for name in parts.present(BANKS)).replace("?.", "?")


def avoided_by_hand(parts: Parts) -> str:
    """How a bar of protection comes about, on one set: digits, where the tables hold it."""
    task = parts.tasks[-1]
    without, ours = (round(ratio(parts, task, "source", method), 2) for method in (WITHOUT, "Diff-Tuning"))
    share = 100 * rise_avoided(parts, task, "Diff-Tuning", WITHOUT).mean
    rises = f"Take {task}: without a bank the loss rises to {without:.2f} times what it was, with the shipped one to {ours:.2f} times."
    if ours >= without:
        return f"{rises} It avoids nothing of the rise."
    return f"{rises} Of a rise of {without - 1:.2f} it avoids {without - ours:.2f}, or about {share:.0f} %."


def protection_in_words(parts: Parts) -> str:
    """What to see in the bars: the new pictures themselves, a small bank, and real pictures."""
    own, small, noise = (_avoided(parts, name) for name in ("bank of target pictures", "bank of 100", "bank of noise"))
    found = "protect, too" if own > KEPT else "protect nothing" if own > -KEPT else "do harm"
    words = f"*The new pictures themselves, replayed as if they were memories, {found}.*"
    if small > max(noise, KEPT):
        words += " The model does not just learn the bank by heart: each of the hundred is seen some fifty times, and yet other pictures are protected."
    return f"{words} {number_or_kind(parts)}"


def noise_and_memories(parts: Parts) -> str:
    """Where on the chain noise avoids how much of the rise, where memories do better, and what real pictures add."""
    first, middle = (_percent(_avoided(parts, "bank of noise", tenths)) for tenths in (FIRST, MIDDLE))
    lines = [
        [[ratio(parts, task, "source", name, [n]) for n in TENTHS] for name in parts.present((*PAIR, WITHOUT, REAL))]
        for task in parts.tasks
    ]
    below = longest_run([all(noise[n] > CLEAR * ours[n] for noise, ours, *_ in lines) for n in range(len(TENTHS))])
    where = f"lie clearly below them {stretch_in_words(below)}" if below else "lie nowhere clearly below them"
    words = f"*Random numbers avoid {first} of the rise in the first tenth, and {middle} in tenths four to six. Memories {where}.* {_real_ones(parts)}"
    if all(max(line[-1] for line in one) < MEET * min(line[-1] for line in one) for one in lines):
        words += " In the last tenth all lines nearly meet. Few bank pictures are trained there; whether that is the reason we do not know."
    return words


def _real_ones(parts: Parts) -> str:
    if not parts.present([REAL]):
        return "What real pictures in their place would do we have not run."
    return f"Real pictures in their place protect {PROTECT[old_pictures(parts, REAL, 'Diff-Tuning')]}."


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
    null, own = (_avoided(parts, method) for method in ("Diff-Tuning", OWN))
    return LABELS[2] if abs(own - null) < KEPT else LABELS[1] if own > null else LABELS[0]


def labels_along_the_chain(parts: Parts) -> str:
    """How far up the chain own labels hold the loss on old pictures, and what they do to the new samples."""
    held = [all(ratio(parts, task, "source", OWN, [n]) < 1 + HELD for task in parts.tasks) for n in TENTHS]
    below = held.index(False) if False in held else len(held)
    words = (
        f"*Replayed under their own labels, the old pictures' loss rises by less than a fifth up to the {ORDINALS[below - 1]} tenth.* "
        if below
        else ""
    )
    found = new_samples(parts, OWN, "Diff-Tuning")
    pays = ": they pay for it" if found == "worse" else ""
    return f"{words}The new samples are {SAMPLES[found]} with own labels{pays}."


def answer_in_words(parts: Parts) -> str:
    """The lesson's answer in Markdown: one bold sentence, which speaks of old pictures and of new samples."""
    share = fraction_in_words(share_of_noise(parts))
    old = {
        "hardly any of it": "It must hold memories: random numbers avoid hardly any of the forgetting that memories avoid",
        "less than half": f"It must hold memories: random numbers avoid about {share} of the forgetting that memories avoid",
        "more than half": f"Only in part: random numbers avoid about {share} of the forgetting that memories avoid",
        "nearly all of it": "No: random numbers avoid nearly as much forgetting as memories",
    }[noise_in_words(parts)]
    poor = "" if old.startswith("No") else " Poor memories help."
    return f"**{old}.{poor} With random numbers in their place the new samples are {samples_in_words(parts, 'bank of noise', 'Diff-Tuning')}.**"


def number_or_kind(parts: Parts) -> str:
    """What the runs say of how many pictures a bank needs and of which classes."""
    if not parts.present(["bank as small, all classes"]):
        return "The small banks hold fewer kinds, too, so these runs cannot separate number from kind."
    found = PROTECT[old_pictures(parts, "bank of far classes", "bank as small, all classes")]
    count = {"less": ": the classes count", "about as well": ": the classes count little"}.get(found, "")
    return f"Beside as many pictures of all kinds, far classes alone protect {found}{count}."


def coverage_and_protection(parts: Parts) -> str:
    """What a small bank covers against what it protects."""
    share = share_of_memories(parts, "bank of 100")
    return (
        f"A bank of 125 pictures covers less than a third of the source. {'Yet the' if share > 0.5 else 'The'} bank of 100 gave about "
        f"{fraction_in_words(share)} of the protection of the thousand. Coverage describes a bank; it does not say what the bank does."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share > 0.005 else "nothing"


def _avoided(parts: Parts, method: str, tenths: Sequence[int] = TENTHS) -> float:
    return float(np.mean([rise_avoided(parts, task, method, WITHOUT, tenths).mean for task in parts.tasks]))
