"""Runs that several files look at: copy their folders before changing anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from difftuning.data.tasks import Task
from difftuning.models.pretrained import Pretrained
from difftuning.training.fine_tuned import FineTuned, load_fine_tuned
from difftuning.training.memory_bank import MemoryBank
from small import small_bank, small_pretrained, small_task
from tests.training.helpers import run, tune


@pytest.fixture(scope="session")
def pretrained() -> Pretrained:
    return small_pretrained()


@pytest.fixture(scope="session")
def task() -> Task:
    return small_task()


@pytest.fixture(scope="session")
def bank(pretrained, tmp_path_factory) -> MemoryBank:
    return small_bank(pretrained, tmp_path_factory.mktemp("bank"))


@pytest.fixture(scope="session")
def tuned_folder(pretrained, task, bank, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tuned"
    tune(pretrained, task, bank, folder)
    return folder


@pytest.fixture(scope="session")
def tuned(tuned_folder) -> FineTuned:
    return load_fine_tuned(tuned_folder)


@pytest.fixture(scope="session")
def straight(tmp_path_factory):
    """A run that nothing disturbed."""
    return run(tmp_path_factory.mktemp("straight"))
