"""What was written down before a study, beside what came: the table with which lessons end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping

if TYPE_CHECKING:
    import pandas


RIGHT = {True: "yes", False: "no", None: "–"}


def expectations_table(rows: Mapping[str, tuple[bool | None, str]]) -> pandas.DataFrame:
    """Prediction -> (was it right? None: not run yet; what was found): a row for each."""
    import pandas

    return pandas.DataFrame({said: {"right": RIGHT[right], "found": found} for said, (right, found) in rows.items()}).T
