"""Names and paths are taken as people give them, whatever the system writes."""

from __future__ import annotations

import os
import unicodedata

import pytest

from difftuning.support.names import in_order, one_form, user_path

COMPOSED, DECOMPOSED = "Äpfel", unicodedata.normalize("NFD", "Äpfel")


def test_accents_have_one_form():
    assert COMPOSED != DECOMPOSED and one_form(COMPOSED) == one_form(DECOMPOSED) == "\u00c4pfel"


def test_files_are_sorted_by_the_numbers_of_their_characters(tmp_path):
    names = ["b.png", "B.png", "a.png", "ä.png", "10.png", "9.png", "_c.png", "Z.png"]
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in in_order(tmp_path.iterdir())] == [
        "10.png",
        "9.png",
        "B.png",
        "Z.png",
        "_c.png",
        "a.png",
        "b.png",
        "ä.png",
    ]


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/runs/x") == tmp_path / "runs" / "x" and user_path("~") == tmp_path
    assert str(user_path("a/~/b")) == os.path.join("a", "~", "b")


@pytest.mark.parametrize("kept, asked", [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_a_folder_is_found_in_whichever_form_it_is_kept(tmp_path, monkeypatch, kept, asked):
    (tmp_path / kept / "x").mkdir(parents=True)
    assert user_path(tmp_path / asked / "x") == tmp_path / kept / "x"
    assert user_path(tmp_path / asked / asked) == tmp_path / kept / asked  # what is not there yet is taken as it is
    monkeypatch.chdir(tmp_path)
    assert str(user_path(f"{asked}/x")) == os.path.join(kept, "x")
