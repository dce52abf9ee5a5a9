"""The table of a run: a number is written down when it is known, so that a stage that is stopped keeps what it has measured."""

from __future__ import annotations

import csv
from pathlib import Path

COLUMNS = ("stage", "what", "value", "unit", "device")
FAILED = "failed"


class Table:
    """Rows of one stage, appended to a CSV file and printed."""

    def __init__(self, path: Path, stage: str, device: str):
        self.path, self.stage, self.device = path, stage, device

    def add(self, what: str, value: object, unit: str = "") -> None:
        """Numbers are kept to four digits."""
        text = f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).split())
        new = not self.path.is_file()
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(COLUMNS)
            writer.writerow([self.stage, what, text, unit, self.device])
        print(f"{self.stage}: {what}: {text} {unit}".rstrip(), flush=True)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Every row by its columns, oldest first; none where there is no file yet."""
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def markdown(rows: list[dict[str, str]]) -> str:
    """The same rows to read: a title that names the card, a table for each stage."""
    devices = dict.fromkeys(row["device"] for row in rows if row["device"])
    lines = [f"# Measurements on {', '.join(devices) or 'no device'}"]
    for stage in dict.fromkeys(row["stage"] for row in rows):
        lines += ["", f"## {stage}", "", "| what | value |", "|---|---|"]
        own = [row for row in rows if row["stage"] == stage]
        lines += [f"| {_cell(row['what'])} | {_cell(row['value'] + ' ' + row['unit'])} |" for row in own]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.strip().replace("|", r"\|")
