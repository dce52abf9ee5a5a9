"""Tables only grow: what stands in them stays, several processes may add, and a kill costs a line at most."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

import difftuning
from difftuning.studies.grid import grid
from difftuning.studies.tables import append_rows, code_version, drop_torn_line, join_arrays, read_rows, save_array, write_rows
from difftuning.support.world import data_folder

ROWS = [{"method": "LoRA, rank 8", "step": step, "fid": 1.5} for step in (1, 2)]


@pytest.mark.parametrize("name", ["pilot.csv", "pilot_losses.csv", "parts.csv"])
def test_a_committed_table_is_added_to_and_stays_as_it_is_before_the_new_rows(tmp_path, name):
    old = (data_folder() / "results" / name).read_bytes()
    (tmp_path / name).write_bytes(old)
    last = read_rows(tmp_path / name)[-1]
    append_rows(tmp_path / name, [{"step": 7, **{key: value for key, value in last.items() if key != "step"}}])
    assert (tmp_path / name).read_bytes() == old + old.splitlines(keepends=True)[-1].replace(f",{last['step']},".encode(), b",7,", 1)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_lines_end_as_those_that_are_there_and_a_byte_order_mark_is_none_of_the_first_column(tmp_path, ending):
    path = tmp_path / "table.csv"
    path.write_bytes(f"\ufeffmethod,step,fid,more{ending}plain,1,2.5,x{ending}".encode())
    append_rows(path, ROWS)
    assert path.read_bytes().decode().split(ending)[1:] == ["plain,1,2.5,x", '"LoRA, rank 8",1,1.5,', '"LoRA, rank 8",2,1.5,', ""]
    assert [row["method"] for row in read_rows(path)] == ["plain", "LoRA, rank 8", "LoRA, rank 8"]


def test_a_table_of_another_kind_is_named_and_left_alone(tmp_path):
    write_rows(tmp_path / "table.csv", [{"method": "plain", "loss": 1}])
    before = (tmp_path / "table.csv").read_bytes()
    with pytest.raises(ValueError, match="table.csv has no column 'step': it is another kind of table"):
        append_rows(tmp_path / "table.csv", ROWS)
    assert (tmp_path / "table.csv").read_bytes() == before


@pytest.mark.parametrize("length", range(0, 60, 7))
def test_a_line_that_a_kill_has_cut_off_is_dropped_wherever_it_was_cut(tmp_path, length):
    path = tmp_path / "table.csv"
    append_rows(path, ROWS)
    whole = path.read_bytes()
    path.write_bytes(whole[:length])
    for _ in range(2):
        drop_torn_line(path)
        assert path.read_bytes() == b"".join(line for line in whole[:length].splitlines(keepends=True) if line.endswith(b"\n"))
    append_rows(path, ROWS[1:])
    assert path.read_bytes().endswith(whole.splitlines(keepends=True)[-1]) and read_rows(path)[-1]["step"] == "2"


def _add(path, number):
    for step in range(20):
        append_rows(path, [{"process": number, "step": step, "text": "x" * 500}] * 3)


def test_several_processes_add_whole_rows_to_one_table(tmp_path):
    path = tmp_path / "new" / "table.csv"
    workers = [multiprocessing.get_context("fork").Process(target=_add, args=(path, number)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = pd.read_csv(path)
    assert len(found) == 3 * 20 * 3 and (found.text == "x" * 500).all()
    assert [list(rows.step) for _, rows in found.groupby("process")] == [[step for step in range(20) for _ in range(3)]] * 3
    assert sorted(file.name for file in path.parent.iterdir()) == ["table.csv"]


def test_after_a_kill_in_the_midst_of_writing_every_whole_row_counts(tmp_path):
    """A process adds rows without end and is killed; what it leaves is rows, after one line at most has been cut off."""
    path = tmp_path / "table.csv"
    code = "import sys; from pathlib import Path; from difftuning.studies.tables import append_rows\nn = 0\nwhile True:\n"
    code += "    append_rows(Path(sys.argv[1]), [{'step': n, 'text': 'x' * 5000}] * 20)\n    n += 1\n"
    process = subprocess.Popen([sys.executable, "-c", code, str(path)])
    while not path.is_file() or path.stat().st_size < 300_000:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = path.read_bytes()
    append_rows(path, [{"step": -1, "text": "x" * 5000}])
    found = pd.read_csv(path)
    assert path.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    assert (found.text == "x" * 5000).all() and found.step.iloc[-1] == -1
    assert (found.step[:-1].value_counts().sort_index()[:-1] == 20).all()


def test_a_row_says_which_code_made_it_and_another_code_still_knows_it():
    """The version and a digest of the sources; rows of older code are not made again."""
    (cell,) = grid([("digits", 200)], ["plain"], [0], [3e-4], steps=(1,))
    assert re.fullmatch(rf"{re.escape(difftuning.__version__)}\+[0-9a-f]{{8}}", code_version()) and "code" not in cell.identity


def test_the_runs_pictures_move_into_one_file_beside_those_that_are_there(tmp_path):
    results, pictures = tmp_path / "table_samples.npz", {name: np.full((2, 4, 4), n, np.uint8) for n, name in enumerate("abc")}
    for names in ("ab", "bc"):
        files = {name: tmp_path / f"{name}.npz" for name in names}
        for name, path in files.items():
            save_array(path, pictures[name])
        join_arrays(files, results)
        assert not any(path.exists() for path in files.values())
    time_then = results.stat().st_mtime_ns
    join_arrays(files, results)  # nothing new
    assert results.stat().st_mtime_ns == time_then
    with np.load(results) as kept:
        assert {name: kept[name].tolist() for name in kept} == {name: images.tolist() for name, images in pictures.items()}
