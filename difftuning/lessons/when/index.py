"""Could one have known?  The index that is measured before any tuning beside the gain, and how well it predicts sets that it has not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping

import numpy as np

from ..parts import STEPS
from .runs import GUIDED, MEASURES, cells, gain

if TYPE_CHECKING:
    import pandas

MEAN, INDEX, SIZE = "the mean of the other sets", "a line through the index", "a line through the number of pictures"
BETTER_BY = 0.1  # of the mean's error: less is no better
KNOWN = {
    "both": "whether you could have known, two tasks do not tell",
    "index": "whether the index would have told you, two tasks do not tell",
    "size": "the index would not have told you, and the number of pictures a little",
    "neither": "neither the index nor the number of pictures would have told you",
}


def left_out_error(features: np.ndarray, gains: np.ndarray) -> float:
    """Root mean square error, in predicting each gain, of a least-squares fit to all the others; features (N,) or (N, k), a constant is added."""
    columns = np.column_stack([np.ones(len(gains)), features])
    errors = []
    for out in range(len(gains)):
        rest = np.arange(len(gains)) != out
        fit, *_ = np.linalg.lstsq(columns[rest], gains[rest], rcond=None)
        errors.append(gains[out] - columns[out] @ fit)
    return float(np.sqrt(np.mean(np.square(errors))))


def prediction_errors(gains: pandas.DataFrame, indices: Mapping[str, float], steps: int = STEPS) -> pandas.DataFrame:
    """The typical error in per cent, each set left out once: a row for each way to predict, a column for each measure."""
    import pandas

    columns = {}
    for measure in MEASURES:
        found = cells(gains, measure, steps=steps)
        known = np.array([gain(gains, cell).mean for cell in found])
        features = {MEAN: np.zeros((len(found), 0)), INDEX: np.array([indices[cell.task] for cell in found]),
                    SIZE: np.log([cell.pictures for cell in found])}  # fmt: skip
        columns[measure] = {way: 100 * np.expm1(left_out_error(values, known)) for way, values in features.items()}
    return pandas.DataFrame(columns)


def known_before(errors: pandas.DataFrame, measure: str = GUIDED) -> str:
    """Which of `KNOWN`: what predicts a gain clearly better than the mean of the others."""
    good = {way for way in (INDEX, SIZE) if errors[measure][way] < (1 - BETTER_BY) * errors[measure][MEAN]}
    return "both" if len(good) == 2 else "index" if INDEX in good else "size" if SIZE in good else "neither"


def known_in_words(errors: pandas.DataFrame, measure: str = GUIDED) -> str:
    """Markdown: the errors of the three predictions, and what follows."""
    mean, index, size = (errors[measure][way] for way in (MEAN, INDEX, SIZE))
    name = "with two tasks the index is little more than the task's name, and any other difference between them would do as well."
    verdict = {
        "both": f"So each of the two beats the mean. But {name}",
        "index": f"So the index beats the mean. But {name}",
        "size": "So the number of pictures predicts better than the index, which is the same for all sets of a task.",
        "neither": "So neither is a rule.",
    }[known_before(errors, measure)]
    return (
        f"**Leave out one set and predict its gain in {measure}, as a ratio: {MEAN} is off by {mean:.0f} %, {INDEX} by {index:.0f} %, "
        f"and {SIZE} by {size:.0f} %.** {verdict}"
    )
