"""A small bank, and a copy of its folder to damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from small import small_bank


@pytest.fixture(scope="session")
def finished(pretrained, tmp_path_factory) -> Path:
    """Twenty samples in shards of 8, 8 and 4."""
    folder = tmp_path_factory.mktemp("bank")
    small_bank(pretrained, folder)
    return folder


@pytest.fixture
def folder(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "bank"))
