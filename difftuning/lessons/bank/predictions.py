"""What lesson 04 predicts of a bank's coverage and cost, and whether the table holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Literal, NamedTuple

if TYPE_CHECKING:
    import pandas


class Prediction(NamedTuple):
    """What the lesson says before the table is opened, for pairs of banks that differ in one choice."""

    varied: str
    measure: str
    holds: Callable[[Any], Any]  # of the changes
    pairs: Literal["neighbours", "last two", "with the first"] = "neighbours"
    relative: bool = False  # the change as a part of the value before


PREDICTIONS = {
    "coverage grows with size": Prediction("size", "coverage", lambda change: change > 0),
    "recall grows with size": Prediction("size", "recall", lambda change: change > 0),
    "precision grows with guidance": Prediction("guidance", "precision", lambda change: change > 0),
    "recall falls with guidance": Prediction("guidance", "recall", lambda change: change < 0),
    "coverage falls with guidance": Prediction("guidance", "coverage", lambda change: change < 0),
    "last doubling of steps: coverage within 0.03": Prediction("steps", "coverage", lambda change: abs(change) <= 0.03, "last two"),
    "last doubling of steps: Frechet within 5 %": Prediction("steps", "fid", lambda change: abs(change) <= 0.05, "last two", relative=True),
    "the time grows with size": Prediction("size", "seconds", lambda change: change > 0, relative=True),
    "the time grows with steps": Prediction("steps", "seconds", lambda change: change > 0, relative=True),
    "guidance other than 1: 1.5 to 2.5 times the time": Prediction(
        "guidance", "seconds", lambda change: (change >= 0.5) & (change <= 1.5), "with the first", relative=True
    ),
}


def tested_predictions(table: pandas.DataFrame) -> pandas.DataFrame:
    """In how many of the table's pairs each of PREDICTIONS held, in how many nothing changed, and the verdict.

    A pair differs in one choice alone.  "mean change" is a difference, of times and distances a part of the value before.
    """
    import pandas

    found = []
    for name, prediction in PREDICTIONS.items():
        changes = _changes(table, prediction)
        held, of = int(prediction.holds(changes).sum()), len(changes)
        found.append(
            {
                "prediction": name,
                "held": held,
                "ties": int((~prediction.holds(changes) & (changes == 0)).sum()),
                "of": of,
                "mean change": changes.mean(),
                "verdict": verdict(held, of),
            }
        )
    return pandas.DataFrame(found).set_index("prediction")


def verdict(held: int, of: int) -> str:
    """One word for a prediction that held in so many pairs; "mostly" is two thirds or more."""
    if held in (0, of):
        return "held" if held else "failed"
    return "mostly held" if 3 * held >= 2 * of else "mostly failed" if 3 * held <= of else "mixed"


def _changes(table: pandas.DataFrame, prediction: Prediction) -> Any:
    """The measure's changes from the first to the second of each pair; numpy (pairs,)."""
    held = [name for name in ("size", "steps", "guidance") if name != prediction.varied]
    values = table.pivot(index=held, columns=prediction.varied, values=prediction.measure).to_numpy()  # (lines, values of the choice)
    before, after = values[:, :-1], values[:, 1:]
    if prediction.pairs == "with the first":
        before = values[:, :1].repeat(after.shape[1], axis=1)
    elif prediction.pairs == "last two":
        before, after = before[:, -1:], after[:, -1:]
    return ((after - before) / (before if prediction.relative else 1)).ravel()
