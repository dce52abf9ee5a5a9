"""What was written down before a study, beside what came: the table with which lessons end, and how such a table of sentences is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping

from ..studies.expected import RIGHT
from ..studies.report import markdown
from .parts import ALIKE, BETTER, WORSE, in_a_word

if TYPE_CHECKING:
    import pandas

    from ..studies.gains import Estimate


def expectations_table(rows: Mapping[str, tuple[bool | None, str]]) -> pandas.DataFrame:
    """Prediction -> (was it right? None: not run, or not decided; what was found): a row for each."""
    import pandas

    return pandas.DataFrame({said: {"right": RIGHT[right], "found": found} for said, (right, found) in rows.items()}).T


def decided(gain: Estimate) -> bool | None:
    """Is it a gain?  None where the runs do not decide it."""
    return {BETTER: True, WORSE: False}.get(in_a_word([gain], ALIKE))


def in_markdown(table: pandas.DataFrame) -> str:
    """A table in Markdown, where long sentences are wrapped and not cut, as pandas does at fifty characters."""
    rows = [[str(name), *map(str, row)] for name, row in zip(table.index, table.to_numpy().tolist())]
    return "\n".join(markdown(["", *map(str, table.columns)], rows))
