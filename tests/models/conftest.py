"""A saved model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from difftuning.models.pretrained import CARD


@pytest.fixture(scope="session")
def saved(small_model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small"
    small_model.save(folder)
    return folder


@pytest.fixture
def copied(saved, tmp_path) -> Path:
    """A copy to damage, without checksums, as a folder that others have made."""
    copy = Path(shutil.copytree(saved, tmp_path / "copy"))
    card = json.loads((copy / CARD).read_text())
    (copy / CARD).write_text(json.dumps({name: value for name, value in card.items() if name != "sha256"}))
    return copy
