"""A run's history: a row for each step, as a table and as CSV text that keeps every bit."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas


def parse_history(text: str) -> pandas.DataFrame:
    """A history from its CSV text, to the last bit, which not every pandas' own reader keeps."""
    columns, *rows = csv.reader(text.splitlines())
    return history_table([[float(value) for value in row] for row in rows], columns)


def history_table(history: list[list[float]], columns: list[str]) -> pandas.DataFrame:
    """Rows of numbers as a table: `step` int64, the other columns float64."""
    import pandas

    return pandas.DataFrame(history, columns=columns, dtype="float64").astype({"step": "int64"})
