"""What lessons make lies inside the clone, wherever they are started."""

from __future__ import annotations

from pathlib import Path

import nbformat
import papermill
import pytest

from difftuning.lessons import folders

ROOT = Path(__file__).resolve().parents[2]
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("start", [".", "notebooks", "notebooks/solutions", ".."])
def test_a_run_folder_is_in_the_clone_from_anywhere(start, monkeypatch):
    monkeypatch.chdir(ROOT / start)
    assert folders.run_folder("runs/chain").resolve() == ROOT / "runs" / "chain"


def test_a_place_of_ones_own_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert folders.run_folder(str(tmp_path / "mine")).resolve() == tmp_path / "mine"


def test_without_a_clone_it_is_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "__file__", str(tmp_path / "site-packages" / "difftuning" / "lessons" / "folders.py"))
    monkeypatch.chdir(tmp_path)
    assert folders.run_folder("runs/chain").resolve() == tmp_path / "runs" / "chain"


@pytest.mark.parametrize("start", [".", "notebooks", ".."])
def test_what_it_returns_means_the_same_folder_again(start, monkeypatch):
    """A cell that says `folder = run_folder(folder)` may be run twice."""
    monkeypatch.chdir(ROOT / start)
    once = folders.run_folder("runs/chain")
    assert folders.run_folder(once).resolve() == folders.run_folder(str(once)).resolve() == ROOT / "runs" / "chain"


def test_an_empty_folder_has_nothing_of_an_earlier_run(tmp_path):
    folder = folders.empty_folder(tmp_path / "run")
    (folder / "old.txt").write_text("old")
    assert not (folders.empty_folder(str(tmp_path / "run")) / "old.txt").exists()


def test_a_folder_of_the_reader_s_is_never_emptied(tmp_path):
    (tmp_path / "photo.png").write_text("mine")
    with pytest.raises(FileExistsError, match="no lesson has made"):
        folders.empty_folder(tmp_path)
    assert (tmp_path / "photo.png").read_text() == "mine"


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_no_lesson_writes_relative_to_where_it_was_started(path):
    folder = papermill.inspect_notebook(str(path)).get("folder")
    code = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    assert "../" not in code
    assert folder is None or "run_folder(folder)" in code or "empty_folder(folder)" in code


@pytest.mark.slow
def test_papermill_from_elsewhere_writes_into_the_clone(tmp_path, monkeypatch):
    """papermill's command starts a notebook in the shell's folder, not in the notebook's own."""
    made = nbformat.v4.new_notebook()
    cell = "from difftuning.lessons.folders import run_folder\nprint(run_folder('runs/quickstart').resolve())"
    made.cells = [nbformat.v4.new_code_cell(cell)]
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(made, tmp_path / "lesson.ipynb")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    done = papermill.execute_notebook("lesson.ipynb", "done.ipynb", progress_bar=False)
    assert done.cells[-1].outputs[0].text.split() == [str(ROOT / "runs" / "quickstart")]
