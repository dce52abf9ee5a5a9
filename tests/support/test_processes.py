"""What launchers leave in the environment of a process that they have not started has no say."""

from __future__ import annotations

import multiprocessing
import os
import sys
import types

import pytest

from difftuning.support import processes

LAUNCHED = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture
def environment(monkeypatch):
    def put(variables):
        for name in LAUNCHED:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


def test_a_launched_process_knows_the_others(environment):
    environment(LAUNCHED)
    assert processes.count() == 4 and processes.local_rank() == 1


@pytest.mark.parametrize("missing", LAUNCHED)
def test_a_part_of_what_a_launcher_says_is_a_leftover(environment, missing):
    environment({name: value for name, value in LAUNCHED.items() if name != missing})
    assert processes.count() == 1 and processes.local_rank() == 0


def test_a_notebook_is_no_launched_process_but_its_children_may_be(environment, monkeypatch):
    environment(LAUNCHED)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: object()))
    assert processes.count() == 1
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: object())
    assert processes.count() == 4


def test_leftovers_are_hidden_from_libraries_and_put_back(environment, monkeypatch):
    environment({"WORLD_SIZE": "4", "RANK": "2"})
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    before = dict(os.environ)
    with processes.as_launched():
        assert not {"WORLD_SIZE", "RANK", "ACCELERATE_USE_FSDP"} & set(os.environ)
    assert dict(os.environ) == before
    environment(LAUNCHED)
    with processes.as_launched():
        assert os.environ["WORLD_SIZE"] == "4"
