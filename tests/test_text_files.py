"""Text is UTF-8 on every system, and is read however any system has written it."""

from __future__ import annotations

import ast
import csv
import json
from pathlib import Path

import pytest

from difftuning.config import DiffTuningConfig
from difftuning.studies.gains import read_table
from difftuning.studies.tables import read_rows, write_rows
from difftuning.support.files import read_text
from difftuning.support.settings import gather, settings_of
from difftuning.support.world import world_version
from difftuning.training.history import parse_history

ROOT = Path(__file__).resolve().parents[1]
BINARY_OPENERS = {"Image", "pillow", "tarfile", "zipfile", "os", "webbrowser"}


def unsaid(source: str) -> list[int]:
    """Lines that open, read or write text without saying how it is encoded, or a table without saying how its lines end."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        said = {keyword.arg for keyword in node.keywords}
        method = node.func.attr if isinstance(node.func, ast.Attribute) else None
        opens = isinstance(node.func, ast.Name) and node.func.id == "open"
        opens |= method == "open" and not (isinstance(node.func.value, ast.Name) and node.func.value.id in BINARY_OPENERS)
        mode = next((each.value for each in node.args if isinstance(each, ast.Constant) and set(str(each.value)) <= set("rwaxbt+")), "r")
        text = method in ("read_text", "write_text") or (opens and "b" not in mode)
        table = method == "to_csv" and "lineterminator" not in said
        if (text and "encoding" not in said) or table:
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize("folder", ["difftuning", "data/build"])
def test_every_read_and_write_of_text_says_its_encoding(folder):
    found = {path.relative_to(ROOT).as_posix(): unsaid(path.read_text(encoding="utf-8")) for path in sorted((ROOT / folder).rglob("*.py"))}
    assert found and not {path: lines for path, lines in found.items() if lines}


def test_what_does_not_say_its_encoding_is_seen():
    source = """
open(path)
open(path, "w", newline="")
open(path, "rb")
path.open()
path.read_text()
path.write_text(text, newline="")
table.to_csv(path)
Image.open(path)
os.open(path, os.O_RDONLY)
open(path, encoding="utf-8")
read_text(path)
"""
    assert unsaid(source) == [2, 3, 5, 6, 7, 8]


AS_WINDOWS_WRITES_IT = [(b"\xef\xbb\xbf", "\r\n"), (b"", "\r\n"), (b"\xef\xbb\xbf", "\n")]


@pytest.mark.parametrize("mark, line_end", AS_WINDOWS_WRITES_IT)
def test_settings_may_have_a_byte_order_mark_and_windows_line_ends(tmp_path, mark, line_end):
    text = line_end.join(['task = "Äpfel"', "folder = 'runs\\Äpfel'", "steps = 7", ""])
    (tmp_path / "run.toml").write_bytes(mark + text.encode())
    options, settings = gather({"config": str(tmp_path / "run.toml")}, ["task", "folder"], settings_of(DiffTuningConfig))
    assert options == {"task": "Äpfel", "folder": "runs\\Äpfel"} and settings == {"steps": 7}


@pytest.mark.parametrize("mark, line_end", AS_WINDOWS_WRITES_IT)
def test_tables_may_have_a_byte_order_mark_and_windows_line_ends(tmp_path, mark, line_end):
    rows = [{"world": world_version(), "task": "Äpfel", "guidance": "1.5"}, {"world": world_version(), "task": "b", "guidance": "1"}]
    lines = ["world,task,guidance", *(",".join(row.values()) for row in rows), ""]
    (tmp_path / "table.csv").write_bytes(mark + line_end.join(lines).encode())
    assert read_rows(tmp_path / "table.csv") == rows == read_table("table", tmp_path).to_dict("records")
    write_rows(tmp_path / "again.csv", rows)
    with open(tmp_path / "again.csv", newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == rows


@pytest.mark.parametrize("mark, line_end", AS_WINDOWS_WRITES_IT)
def test_histories_and_json_may_have_a_byte_order_mark_and_windows_line_ends(tmp_path, mark, line_end):
    from difftuning.support.files import read_json

    (tmp_path / "history.csv").write_bytes(mark + line_end.join(["step,target_loss", "0,0.1", ""]).encode())
    assert parse_history(read_text(tmp_path / "history.csv")).to_dict("records") == [{"step": 0, "target_loss": 0.1}]
    (tmp_path / "x.json").write_bytes(mark + json.dumps({"a": ["Ä"]}, indent=1, ensure_ascii=False).replace("\n", line_end).encode())
    assert read_json(tmp_path / "x.json") == {"a": ["Ä"]}
