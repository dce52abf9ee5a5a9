"""Settings check their values, are written down as plain numbers, and tell the command line what they are."""

import inspect
import json
from dataclasses import asdict, fields

import numpy as np
import pytest

import difftuning as dt
from difftuning.config import BankConfig, DiffTuningConfig, PretrainingConfig, StudyCell, TrainingConfig
from difftuning.support.settings import metavar, settings_of, typed


def test_the_learning_rate_rises_and_falls_linearly():
    config = TrainingConfig(steps=10, learning_rate=1.0, warmup_steps=3, cooldown_steps=4)
    rates = [config.learning_rate_at(step) for step in range(10)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])
    assert {TrainingConfig(steps=5, learning_rate=0.5).learning_rate_at(step) for step in range(5)} == {0.5}


@pytest.mark.parametrize("name, value", [
    ("steps", 0), ("steps", 10.5), ("batch_size", 0), ("accumulation", 0), ("checkpoint_every", 0), ("keep_checkpoints", 0),
    ("learning_rate", 0.0), ("learning_rate", float("nan")), ("learning_rate", float("inf")), ("weight_decay", -0.1),
    ("weight_decay", float("nan")), ("weight_decay", float("inf")), ("warmup_steps", -1), ("cooldown_steps", -1), ("ema_decay", 1.0), ("ema_decay", -0.1),
    ("clip_norm", 0.0), ("clip_norm", -1.0), ("mixed_precision", "fp8"),
])  # fmt: skip
def test_a_wrong_setting_is_named_with_its_value(name, value):
    with pytest.raises(ValueError, match=name) as caught:
        TrainingConfig(**{"steps": 10, name: value})
    assert str(value) in str(caught.value)


@pytest.mark.parametrize("name, value", [
    ("steps", True), ("steps", None), ("seed", None), ("seed", "x"), ("learning_rate", None), ("learning_rate", "fast"), ("warmup_steps", 2.5), ("ema_warmup", 1),
])  # fmt: skip
def test_a_setting_of_another_kind_is_named_with_its_value(name, value):
    with pytest.raises(ValueError, match=f"{name} must be .*, got {value!r}"):
        TrainingConfig(**{"steps": 10, name: value})


def test_numbers_of_numpy_are_taken_as_plain_ones(tmp_path):
    config = TrainingConfig(steps=np.int64(2), learning_rate=np.float32(0.5), seed=np.int64(1), batch_size=np.int32(12))
    assert (
        json.loads(json.dumps(asdict(config)))
        == asdict(config)
        == asdict(TrainingConfig(steps=2, learning_rate=0.5, seed=1, batch_size=12))
    )


@pytest.mark.parametrize("name, value", [
    ("bank_share", -0.1), ("bank_share", 1.0), ("bank_weight", -1.0), ("bank_weight", float("nan")), ("bank_weight", float("inf")),
    ("label_drop", 1.0), ("reconsolidation_power", -1.0), ("reconsolidation_power", float("inf")), ("retention_power", -0.5), ("retention_power", float("nan")), ("family", "linear"),
    ("loss_weighting", "snr"), ("bank_labels", "nul"), ("label_rows", "last"), ("steps", 0),
])  # fmt: skip
def test_a_wrong_setting_of_the_method_is_named_with_its_value(name, value):
    with pytest.raises(ValueError, match=name) as caught:
        DiffTuningConfig(**{"steps": 10, name: value})
    assert str(value) in str(caught.value)


@pytest.mark.parametrize("name", ["width", "num_heads", "num_layers", "num_labels"])
def test_a_size_of_nothing_is_named(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        PretrainingConfig(**{name: 0})


@pytest.mark.parametrize("name, value", [("size", 0), ("size", 2.5), ("shard_size", 0), ("guidance", "x"), ("reencode", "yes")])
def test_a_wrong_setting_of_a_bank_is_named_with_its_value(name, value):
    with pytest.raises(ValueError, match=name) as caught:
        BankConfig(**{"size": 10, name: value})
    assert str(value) in str(caught.value)


def test_a_bank_is_sampled_by_the_defaults_of_its_settings():
    defaults = {name: each.default for name, each in inspect.signature(dt.MemoryBank.sample).parameters.items()}
    own = {each.name: each.default for each in fields(BankConfig) if each.name != "size"}
    assert own == {name: defaults[name] for name in own}


def test_a_cell_is_known_by_everything_but_its_marks():
    cell = StudyCell("digits", "Diff-Tuning, weight 1", 2, 1e-3, (400, 800), training_pictures=50)
    assert cell.file_name == "digits-50pictures-Diff-Tuning_weight_1-lr0.001-seed2"
    assert "steps" not in cell.identity and cell.identity["training_pictures"] == 50


@pytest.mark.parametrize("config", [DiffTuningConfig, PretrainingConfig])
def test_the_command_line_sees_each_setting_with_its_type_and_default(config):
    found = settings_of(config)
    assert list(found) == [each.name for each in fields(config)]
    made = config(**{name: 7 for name, setting in found.items() if setting.default is None})
    for name, setting in found.items():
        if setting.default is not None and setting.annotation != "bool":
            assert typed(name, setting.annotation, setting.default.lower()) == getattr(made, name)


def test_help_shows_the_choices_and_says_what_a_setting_is():
    found = settings_of(DiffTuningConfig)
    assert metavar(found["bank_labels"].annotation) == "{null,own}" and metavar(found["clip_norm"].annotation) == "X"
    assert metavar(found["family"].annotation) == "{official,paper,threshold,sigmoid,swapped}"
    assert found["bank_share"].help == "of the global batch, rounded down: 6 of 32; 0: the bank is there for a regularizer alone"
    assert found["steps"].default is None
