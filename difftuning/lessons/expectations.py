"""What was written down before a study, beside what came: the table with which lessons end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping

if TYPE_CHECKING:
    import pandas


def expectations_table(rows: Mapping[str, tuple[bool, str]]) -> pandas.DataFrame:
    """Prediction -> (was it right?, what was found): a row for each."""
    import pandas

    return pandas.DataFrame({said: {"right": "yes" if right else "no", "found": found} for said, (right, found) in rows.items()}).T
