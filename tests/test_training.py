"""The loop stops, goes on, averages and splits its batches without a bit's or a gradient's difference."""

from __future__ import annotations

import collections
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from difftuning.checkpoints import list_checkpoints, trainable
from difftuning.diffusion import Diffusion
from difftuning.objective import Objective, Stream
from difftuning.schedules import timestep_distribution
from difftuning.training import MovingAverage, TrainingConfig, train

CPU = torch.device("cpu")


class Net(nn.Module):
    """Takes what a DiT takes, in a tenth of a millisecond."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.mix, self.labels = nn.Conv2d(4, 8, 3, padding=1), nn.Embedding(6, 8)

    def forward(self, x_t, t, labels):
        return self.mix(x_t) + self.labels(labels)[:, :, None, None] * (t[:, None, None, None] / 1000)


def objective(seed: int = 0) -> Objective:
    latents = torch.randn(20, 4, 4, 4, generator=torch.Generator().manual_seed(3))
    labels, law = torch.arange(20) % 5, timestep_distribution(1000, 1)
    target = Stream("target", latents, labels, 10, law, label_drop=0.1, null_label=5)
    bank = Stream("bank", latents.flip(0), torch.full((20,), 5), 2, law.flip(0), weight=0.1)
    return Objective([target, bank], Diffusion(), seed)


def run(folder: Path, *, module: nn.Module | None = None, callbacks=(), record=None, **options):
    config = TrainingConfig(**{"steps": 12, "checkpoint_every": 5, "learning_rate": 1e-2, **options})
    module = Net() if module is None else module
    state, history = train(module, objective(), config, folder=folder, device=CPU, record=record, callbacks=callbacks, progress=False)
    return state, history


def weights(module: nn.Module) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in module.parameters()])


def assert_same(one, other) -> None:
    """Bit by bit: weights, averages and every loss of the history."""
    (state, history), (state_2, history_2) = one, other
    assert torch.equal(weights(state.module), weights(state_2.module))
    assert all(torch.equal(tensor, state_2.average.tensors[name]) for name, tensor in state.average.tensors.items())
    assert history.drop(columns="seconds").equals(history_2.drop(columns="seconds"))


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run that nothing disturbed."""
    return run(tmp_path_factory.mktemp("straight"))


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


def test_the_learning_rate_rises_and_falls_linearly():
    config = TrainingConfig(steps=10, learning_rate=1.0, warmup_steps=3, cooldown_steps=4)
    rates = [config.learning_rate_at(step) for step in range(10)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])
    assert {TrainingConfig(steps=5, learning_rate=0.5).learning_rate_at(step) for step in range(5)} == {0.5}


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


def test_a_record_keeps_another_run_out_and_a_finished_one_needs_no_space(tmp_path, straight, monkeypatch):
    record = {"data": "noise", "batch_size": 32}
    assert_same(run(tmp_path, record=record), straight)
    for change, said in (({"data": "photos"}, "data was 'noise'"), ({"batch_size": 12}, "batch_size was 32")):
        with pytest.raises(ValueError, match=said):
            run(tmp_path, record=record | change)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: collections.namedtuple("Usage", "total used free")(10, 10, 0))
    assert_same(run(tmp_path, record=record), straight)


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


PROCESS = """
import os, signal
from test_training import *
folder, rank = Path(sys.argv[1]), os.environ["RANK"]
def interrupt(state):  # the main process alone is told to stop
    if state.step == 7:
        os.kill(os.getpid(), signal.SIGINT)
try:
    run(folder, callbacks=[interrupt], accumulation=2)
except KeyboardInterrupt as error:
    print(error)
state, history = run(folder, accumulation=2)
torch.save([weights(state.module), history["bank_loss"].tolist()], folder / f"result-{rank}.pt")
"""


IN_ORDER = """
import atexit, os, sys
def check():  # the first one registered runs last
    if torch.distributed.is_initialized():
        print("the process group is still there", file=sys.stderr, flush=True)
        os._exit(3)
atexit.register(check)
import torch
sys.path[:0] = {paths}
"""


def in_two_processes(program: str, folder: Path) -> list[str]:
    """Run a program as torchrun would, twice; what each process printed.  Both must leave their group before Python goes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tests = Path(__file__).parent
    program = IN_ORDER.format(paths=[str(tests), str(tests.parent)]) + program
    launcher = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(folder)], env=os.environ | launcher | {"RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in "01"
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=100) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (out, err) in zip(processes, said):
        assert process.returncode == 0, f"exit code {process.returncode}\n{out}\n{err}"
    return [out for out, _ in said]


@pytest.mark.slow
def test_two_processes_train_as_one_and_stop_together(tmp_path, straight):
    assert all("after step 7" in out for out in in_two_processes(PROCESS, tmp_path))
    (one, losses), (two, losses_2) = (torch.load(tmp_path / f"result-{rank}.pt") for rank in "01")
    assert torch.equal(one, two) and losses == losses_2
    assert torch.allclose(one, weights(straight[0].module), atol=1e-5)
    assert torch.allclose(torch.tensor(losses), torch.tensor(straight[1]["bank_loss"]).float(), rtol=1e-4)


FINE_TUNE = """
import os, time
from dataclasses import asdict
from pathlib import Path
import difftuning as dt
from small import *
folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
pretrained, task = small_pretrained(), small_task()
bank = MemoryBank.load(folder / "bank")
time.sleep(rank)  # the second process comes late
options = dict(folder=folder / "run", resume=False, progress=False)
tuned = dt.fine_tune(pretrained, task, bank, dt.DiffTuningConfig(steps=3, learning_rate=1e-3), **options)
assert dt.load_fine_tuned(folder / "run").model.fingerprint == tuned.model.fingerprint
for call, error in (
    (lambda: dt.fine_tune(pretrained, task, bank, dt.DiffTuningConfig(steps=3), **options), FileExistsError),
    (lambda: small_bank(pretrained, folder / "another"), ValueError),
):
    try:
        call()
    except error as caught:
        print(caught)
"""


@pytest.mark.slow
def test_two_processes_fine_tune_as_one_and_hear_of_each_others_errors(tmp_path):
    import difftuning as dt
    from small import small_bank, small_pretrained, small_task

    bank = small_bank(small_pretrained(), tmp_path / "bank")
    for out in in_two_processes(FINE_TUNE, tmp_path):
        assert "already holds a run" in out and "a bank is sampled by one process" in out
    config = dt.DiffTuningConfig(steps=3, learning_rate=1e-3)
    alone = dt.fine_tune(small_pretrained(), small_task(), bank, config, folder=tmp_path / "alone", progress=False)
    together = dt.load_fine_tuned(tmp_path / "run").model.denoiser
    torch.testing.assert_close(weights(together), weights(alone.model.denoiser), atol=1e-5, rtol=0)
