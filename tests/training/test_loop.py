"""The loop stops, goes on, averages and splits its batches without a bit's or a gradient's difference."""

from __future__ import annotations

import collections
import os
import shutil
import signal
import threading

import pytest
import torch
from torch import nn

from difftuning.training import loop
from difftuning.training.checkpoints import list_checkpoints, trainable
from difftuning.training.loop import MovingAverage
from tests.training.helpers import CPU, Net, assert_same, objective, run, weights


def test_without_a_folder_the_steps_are_the_same_and_nothing_is_kept(tmp_path, straight, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_same(run(None), straight)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_raises_and_the_same_call_goes_on(tmp_path, straight, sent):
    seen = []

    def interrupt(state):
        seen.append(state.step)
        if state.step == 7:
            os.kill(os.getpid(), sent)

    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match="after step 7; run the same call again"):
        run(tmp_path, callbacks=[interrupt])
    assert list_checkpoints(tmp_path)[-1].name == "step-00000007"
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert_same(run(tmp_path, callbacks=[lambda state: seen.append(state.step)]), straight)
    assert seen == list(range(1, 13))  # each step called back once


def test_a_second_interrupt_does_not_wait_and_costs_the_steps_since_the_last_checkpoint(tmp_path, straight):
    def impatient(state):
        if state.step == 7:
            for _ in range(2):  # in this very thread: two that the system hands to others may arrive as one
                signal.raise_signal(signal.SIGINT)
            raise AssertionError("the second interrupt waited")

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, callbacks=[impatient])
    assert list_checkpoints(tmp_path)[-1].name == "step-00000005"
    assert_same(run(tmp_path), straight)


def test_a_failing_callback_costs_the_steps_since_the_last_checkpoint_alone(tmp_path, straight):
    with pytest.raises(ZeroDivisionError):
        run(tmp_path, callbacks=[lambda state: 1 / (state.step - 11)])
    assert_same(run(tmp_path), straight)


def test_more_steps_continue_a_finished_run(tmp_path, straight):
    run(tmp_path, steps=4)
    assert_same(run(tmp_path), straight)
    assert_same(run(tmp_path), straight)  # finished: nothing is done again


def test_training_works_in_a_thread_where_no_signal_arrives(tmp_path, straight):
    results = []
    thread = threading.Thread(target=lambda: results.append(run(tmp_path)))
    thread.start()
    thread.join()
    assert_same(results[0], straight)


def test_neither_what_ran_before_nor_the_global_generator_matters(tmp_path, straight):
    run(tmp_path / "other", mixed_precision="bf16", steps=2)  # accelerate remembers a process's first precision
    torch.rand(3)
    before = torch.get_rng_state()
    assert_same(run(tmp_path / "again"), straight)
    assert torch.equal(torch.get_rng_state(), before)


def test_callbacks_see_the_state_after_each_step(tmp_path):
    seen = []
    _, history = run(tmp_path, callbacks=[lambda state: seen.append((state.step, dict(state.losses)))])
    assert [step for step, _ in seen] == list(range(1, 13))
    assert [losses["bank"] for _, losses in seen] == history["bank_loss"].tolist()


def test_the_history_has_a_row_for_each_step(straight):
    _, history = straight
    assert list(history.columns) == ["step", "target_loss", "bank_loss", "seconds"]
    assert history["step"].tolist() == list(range(12)) and history["step"].dtype == "int64"
    assert (history["seconds"] > 0).all()


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_the_averaged_model_is_a_copy_that_owes_the_loop_nothing(tmp_path, precision):
    """Under bf16 accelerate patches the forward of the module it trains; a copy must not keep that."""
    state, _ = run(tmp_path, mixed_precision=precision)
    copy = state.ema_model()
    batch = torch.randn(2, 4, 4, 4), torch.tensor([3, 900]), torch.tensor([0, 5])
    fresh = Net()
    fresh.load_state_dict(state.average.tensors)
    assert not copy.training and copy(*batch).dtype == torch.float32
    assert torch.equal(copy(*batch), fresh(*batch))
    average, trained = [t.clone() for t in state.average.tensors.values()], weights(state.module).clone()
    with torch.no_grad():
        for weight in copy.parameters():
            weight.zero_()
    assert all(torch.equal(a, b) for a, b in zip(average, state.average.tensors.values()))
    assert torch.equal(trained, weights(state.module)) and not torch.equal(weights(fresh), trained)


def test_bf16_trains_nearly_as_float32_does_and_resumes_to_the_bit(tmp_path, straight):
    whole = run(tmp_path / "whole", mixed_precision="bf16")
    losses = torch.tensor(whole[1]["target_loss"]), torch.tensor(straight[1]["target_loss"])
    assert torch.allclose(*losses, rtol=0.05) and not torch.equal(*losses)
    run(tmp_path / "parts", mixed_precision="bf16", steps=5)
    assert_same(run(tmp_path / "parts", mixed_precision="bf16"), whole)


@pytest.mark.parametrize("warmup", [True, False])
def test_the_average_is_the_scalar_recursion(warmup):
    module = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(module.weight, 2.0)
    average, expected = MovingAverage(module, 0.9, warmup), 2.0
    for n in range(200):
        value = float(torch.sin(torch.tensor(n)))
        nn.init.constant_(module.weight, value)
        average.update(module, n)
        decay = min(0.9, (1 + n) / (10 + n)) if warmup else 0.9
        expected = decay * expected + (1 - decay) * value
        assert float(average.tensors["weight"]) == pytest.approx(expected, rel=1e-12)


def test_without_warm_up_a_short_run_returns_the_first_weights(tmp_path):
    cold, warm = (run(tmp_path / str(on), ema_warmup=on)[0].ema_model() for on in (False, True))
    distance = [float((weights(model) - weights(Net())).norm()) for model in (cold, warm)]
    assert distance[0] < 0.01 * distance[1]


@pytest.mark.parametrize("accumulation", [2, 4, 5])
def test_accumulated_parts_train_as_the_whole_batch(tmp_path, straight, accumulation):
    state, history = run(tmp_path, accumulation=accumulation)
    assert torch.allclose(weights(state.module), weights(straight[0].module), atol=1e-5)
    assert torch.allclose(torch.tensor(history["bank_loss"]), torch.tensor(straight[1]["bank_loss"]), rtol=1e-4)


def test_one_step_is_adamw_on_the_clipped_gradient(tmp_path):
    net = Net()
    own = objective()
    own.total(own.losses(net, 0, CPU)).backward()
    norm = torch.cat([p.grad.flatten() for p in net.parameters()]).norm()
    expected = [p.detach() - 1e-2 * (g := p.grad * 1e-6 / norm) / (g.abs() + 1e-8) for p in net.parameters()]
    state, _ = run(tmp_path, steps=1, clip_norm=1e-6)
    for weight, value in zip(state.module.parameters(), expected):
        assert torch.allclose(weight, value, atol=1e-5)


def test_the_optimizer_follows_the_learning_rate(tmp_path):
    """AdamW's first step has the length of the learning rate, whatever the gradient."""
    moved = {}
    for warmup in (0, 3):
        state, _ = run(tmp_path / str(warmup), steps=1, warmup_steps=warmup)
        moved[warmup] = (weights(state.module) - weights(Net())).abs().max()
    assert torch.allclose(moved[3], moved[0] / 4, rtol=1e-3)


def test_frozen_parameters_stay_and_take_no_space(tmp_path):
    net = Net()
    net.labels.requires_grad_(False)
    frozen = net.labels.weight.clone()
    state, _ = run(tmp_path, module=net)
    assert torch.equal(net.labels.weight, frozen) and set(state.average.tensors) == {"mix.weight", "mix.bias"}
    assert set(trainable(net)) == {"mix.weight", "mix.bias"}


def test_a_loss_that_is_not_a_number_ends_the_run_and_is_not_saved(tmp_path):
    net = Net()

    def poison(state):
        if state.step == 7:
            nn.init.constant_(net.mix.bias, float("nan"))

    with pytest.raises(FloatingPointError, match="at step 7; lower the learning rate") as caught:
        run(tmp_path, module=net, callbacks=[poison])
    assert "\n" not in str(caught.value)
    assert list_checkpoints(tmp_path)[-1].name == "step-00000005"


def test_a_disk_too_full_for_the_checkpoints_is_an_error_before_the_first_step(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: collections.namedtuple("Usage", "total used free")(10, 10, 1000))
    with pytest.raises(OSError, match=r"\d [kM]B free"):
        run(tmp_path / "run", callbacks=[seen.append], record={"data": "noise"})
    assert not seen and not (tmp_path / "run").exists()


def test_space_is_asked_for_the_checkpoints_that_a_run_writes(tmp_path, monkeypatch):
    """Weights, their average and two moments, each time: a run that ends before its second checkpoint writes one, not the three that it would keep."""
    asked = []
    monkeypatch.setattr(loop, "require_space", lambda folder, size: asked.append(size))
    for name, options in {"one": {"checkpoint_every": 12}, "late": {"checkpoint_every": 100}, "all": {"checkpoint_every": 1}}.items():
        run(tmp_path / name, record={"data": "noise"}, **options)
    one, late, all_kept = asked
    assert one == late and all_kept == 3 * one
    run(tmp_path / "called", record={"data": "noise"}, checkpoint_every=12, callbacks=[lambda state: None])
    assert asked[-1] * 4 == one * 5, "a callback may choose weights, which are kept beside them"


def test_a_record_keeps_another_run_out_and_a_finished_one_needs_no_space(tmp_path, straight, monkeypatch):
    record = {"data": "noise", "batch_size": 32}
    assert_same(run(tmp_path, record=record), straight)
    for change, said in (({"data": "photos"}, "data was 'noise'"), ({"batch_size": 12}, "batch_size was 32")):
        with pytest.raises(ValueError, match=said):
            run(tmp_path, record=record | change)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: collections.namedtuple("Usage", "total used free")(10, 10, 0))
    assert_same(run(tmp_path, record=record), straight)


def test_what_cannot_run_here_is_refused_before_anything_is_written(tmp_path):
    record = {"steps": 12}
    with pytest.raises(ValueError, match="10 pictures of a kind cannot be cut into 11 parts"):
        run(tmp_path / "run", record=record, accumulation=11)
    with pytest.raises(ValueError, match="needs a GPU: use 'bf16' or 'no'"):
        run(tmp_path / "run", record=record, mixed_precision="fp16")
    assert not (tmp_path / "run").exists()


def test_accelerates_own_accumulation_has_no_say(tmp_path, straight, monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert_same(run(tmp_path), straight)
