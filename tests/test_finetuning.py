"""`fine_tune` is the method as published, resumes to the bit, and plain fine-tuning is the same code switched off."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler
from torch.nn.functional import mse_loss

from difftuning import finetuning
from difftuning.data import Task
from difftuning.diffusion import hybrid_loss
from difftuning.files import DamagedFileError
from difftuning.finetuning import (
    DiffTuningConfig,
    FineTuned,
    add_rows,
    choose_rows,
    fine_tune,
    load_fine_tuned,
    split_batch,
    timestep_law,
    training_streams,
)  # fmt: skip
from difftuning.memory import MemoryBank
from difftuning.pretrained import Pretrained
from difftuning.sampling import sample
from difftuning.schedules import reconsolidation_weight, retention_weight
from small import SOURCE_NAMES, run_python, small_bank, small_pretrained, small_task

PLAIN = {"reconsolidation_power": 0.0}


@pytest.fixture(scope="module")
def pretrained() -> Pretrained:
    return small_pretrained()


@pytest.fixture(scope="module")
def task() -> Task:
    return small_task()


@pytest.fixture(scope="module")
def bank(pretrained, tmp_path_factory) -> MemoryBank:
    return small_bank(pretrained, tmp_path_factory.mktemp("bank"))


def tune(pretrained, task, bank, folder, *, callbacks=(), resume=True, **options) -> FineTuned:
    config = DiffTuningConfig(**{"steps": 12, "checkpoint_every": 5, "learning_rate": 1e-3, **options})
    return fine_tune(pretrained, task, bank, config, folder=folder, callbacks=callbacks, resume=resume, progress=False)


@pytest.fixture(scope="module")
def tuned_folder(pretrained, task, bank, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tuned"
    tune(pretrained, task, bank, folder)
    return folder


@pytest.fixture(scope="module")
def tuned(tuned_folder) -> FineTuned:
    return load_fine_tuned(tuned_folder)


def weights(model: Pretrained) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.denoiser.parameters()])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def streams_of(pretrained, task, bank, **options):
    config = DiffTuningConfig(steps=1, **options)
    rows = choose_rows(pretrained, len(task.class_names), config.label_rows)
    return training_streams(pretrained, task, bank, config, rows, split_batch(config, bank))


# The loop against another one -----------------------------------------------------------------


def independent_loop(pretrained, draws, steps, learning_rate, bank_weight, start):
    """Plain torch, sharing the random draws alone: own noising, own loss, own AdamW, own average."""
    model = start
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    a = (1 - betas).cumprod(0)
    before = torch.cat([torch.ones(1, dtype=torch.float64), a[:-1]])
    posterior = betas * (1 - before) / (1 - a)
    posterior[0] = posterior[1]
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    average = [weight.detach().clone() for weight in model.parameters()]
    history = []
    for step in range(steps):
        drawn = draws(step)
        parts = []
        for x_0, t, noise, labels in drawn:
            x_t = (a[t].sqrt().float())[:, None, None, None] * x_0 + ((1 - a[t]).sqrt().float())[:, None, None, None] * noise
            parts.append((x_0, x_t, t, noise, labels))
        output = model(*(torch.cat([part[i] for part in parts]) for i in (1, 2, 4)))
        losses = []
        for (_, _, t, noise, _), out in zip(parts, output.split([len(part[2]) for part in parts])):
            assert bool((t > 0).all())  # true of this seed; t = 0 has another bound
            eps, v = out.chunk(2, dim=1)
            at = lambda table: table[t].float()[:, None, None, None]  # noqa: E731
            log_variance = (v + 1) / 2 * at(betas.log()) + (1 - (v + 1) / 2) * at(posterior.log())
            error = at(betas / ((1 - a).sqrt() * (1 - betas).sqrt())) * (noise - eps.detach())  # difference of the two means
            kl = torch.distributions.kl_divergence(
                torch.distributions.Normal(error, at(posterior.sqrt())),
                torch.distributions.Normal(torch.zeros(()), (log_variance / 2).exp()),
            )
            losses.append(mse_loss(eps, noise) + kl.mean() / torch.log(torch.tensor(2.0)))
        total = losses[0] if len(losses) == 1 else losses[0] + bank_weight * losses[1]
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        decay = min(0.9999, (1 + step) / (10 + step))
        average = [decay * old + (1 - decay) * new.detach() for old, new in zip(average, model.parameters())]
        history.append([loss.item() for loss in losses])
    return model, torch.cat([weight.flatten() for weight in average]), torch.tensor(history)


@pytest.mark.parametrize("method", ["plain", "Diff-Tuning"])
def test_the_loop_equals_an_independent_one_on_the_same_draws(pretrained, task, bank, tmp_path, method):
    used, options = (None, PLAIN) if method == "plain" else (bank, {})
    trained = []
    result = tune(pretrained, task, used, tmp_path, seed=2, callbacks=[lambda state: trained.append(state.module)], **options)

    config = DiffTuningConfig(steps=12, seed=2, **options)
    streams = streams_of(pretrained, task, used, seed=2, **options)
    start = pretrained.copy_denoiser().train()
    add_rows(start, pretrained, choose_rows(pretrained, 3), seed=2)

    def draws(step):
        drawn = [stream.draw(2, step) for stream in streams]
        if method == "Diff-Tuning":
            assert [len(part.t) for part in drawn] == [26, 6] and bool((drawn[1].labels == 12).all())
        return [(part.x_0, part.t, part.noise, part.labels) for part in drawn]

    model, average, losses = independent_loop(pretrained, draws, config.steps, 1e-3, 0.1, start)
    names = ["target_loss"] if method == "plain" else ["target_loss", "bank_loss"]
    assert torch.allclose(torch.tensor(result.history[names].values).float(), losses, rtol=1e-4)
    start_weights = weights(pretrained)
    moved = (weights(result.model) - start_weights).norm()
    assert (weights(result.model) - average).norm() < 1e-2 * moved
    last = torch.cat([weight.detach().flatten() for weight in trained[-1].parameters()])
    own = torch.cat([weight.detach().flatten() for weight in model.parameters()])
    assert (last - own).norm() < 1e-2 * (own - start_weights).norm()


# The method's parts -----------------------------------------------------------------------------


@pytest.mark.parametrize("batch, share, split", [
    (32, 0.2, (26, 6)), (64, 0.2, (52, 12)), (100, 0.29, (71, 29)), (5, 0.2, (4, 1)), (15, 0.2, (12, 3)), (2, 0.5, (1, 1)), (3, 0.99, (1, 2)),
])  # fmt: skip
def test_the_global_batch_is_split_by_the_share_rounded_down(bank, batch, share, split):
    config = DiffTuningConfig(steps=1, batch_size=batch, bank_share=share)
    assert split_batch(config, bank) == split
    assert split_batch(config, None) == (batch, 0)


@pytest.mark.parametrize("batch, share", [(4, 0.2), (32, 0.0)])
def test_a_batch_too_small_for_the_share_is_an_error(pretrained, task, bank, tmp_path, batch, share):
    with pytest.raises(ValueError, match=f"a batch of {batch} at bank_share {share} holds no bank picture"):
        tune(pretrained, task, bank, tmp_path / "run", batch_size=batch, bank_share=share)
    assert not (tmp_path / "run").exists()


def test_the_defaults_are_the_published_ones(pretrained, task, bank):
    target, retained = streams_of(pretrained, task, bank)
    ranks = torch.arange(1, 1001, dtype=torch.float64)
    assert torch.allclose(target.law, ranks / ranks.sum()) and torch.allclose(retained.law, (1001 - ranks) / ranks.sum())
    assert (target.weight, retained.weight) == (1.0, 0.1) and (target.batch, retained.batch) == (26, 6)
    assert (target.label_drop, retained.label_drop) == (0.1, 0.0)
    assert bool((retained.labels == pretrained.null_label).all())
    config = DiffTuningConfig(steps=1)
    assert (config.learning_rate, config.weight_decay, config.ema_decay) == (1e-4, 0.0, 0.9999)


def test_without_bank_and_at_power_zero_it_is_plain_fine_tuning(pretrained, task, tmp_path):
    (target,) = streams_of(pretrained, task, None, **PLAIN)
    assert torch.allclose(target.law, torch.full((1000,), 1e-3, dtype=torch.float64))
    assert (target.batch, target.weight, target.importance, target.eps_weight) == (32, 1.0, None, None)
    tuned = tune(pretrained, task, None, tmp_path, steps=1, **PLAIN)
    for history in (tuned.history, load_fine_tuned(tmp_path).history):  # the columns of every run; a bank's loss there is not
        assert list(history) == ["step", "target_loss", "bank_loss", "seconds"] and history.bank_loss.isna().all()


def test_bank_pictures_may_keep_their_own_labels(pretrained, task, bank):
    _, retained = streams_of(pretrained, task, bank, bank_labels="own")
    assert torch.equal(retained.labels, bank.labels) and retained.label_drop == 0.1
    with pytest.raises(ValueError, match="use label_rows='free'"):
        finetuning._require_open_rows(bank, DiffTuningConfig(steps=1, bank_labels="own"), torch.arange(3))


def test_flips_are_taken_where_the_task_allows_them_and_never_else(pretrained, bank):
    with_flips, _ = streams_of(pretrained, small_task(flip=True), bank)
    without, _ = streams_of(pretrained, small_task(), bank)
    images = small_task().images
    assert torch.allclose(with_flips.mirrored, pretrained.encode(images.flip(-1)), atol=1e-5) and without.mirrored is None


def test_the_families_give_the_laws_and_weights_they_state():
    t = torch.arange(1000)
    paper = DiffTuningConfig(steps=1, family="paper", reconsolidation_power=2.0, retention_power=0.5)
    for descending, weight in ((False, reconsolidation_weight(t, 1000, 2.0)), (True, retention_weight(t, 1000, 0.5))):
        law, importance = timestep_law(paper, 1000, descending=descending)
        assert torch.allclose(law, weight.double() / weight.double().sum()) and importance is None
    weighted = DiffTuningConfig(steps=1, family="paper", reconsolidation_power=2.0, weighted=True)
    law, importance = timestep_law(weighted, 1000)
    assert torch.allclose(law, torch.full((1000,), 1e-3).double()) and torch.allclose(importance, (t.double() / 1000) ** 2)
    law, _ = timestep_law(DiffTuningConfig(steps=1, family="threshold", retention_power=0.3), 1000, descending=True)
    assert torch.allclose(law, (t < 300).double() / 300)
    soft, _ = timestep_law(DiffTuningConfig(steps=1, family="sigmoid", reconsolidation_power=0.5), 1000)
    assert float(soft[0]) < 1e-3 * float(soft[999]) and bool((soft.diff() >= 0).all())


def test_sampling_and_weighting_of_the_official_family_expect_the_same_loss(pretrained, task, bank):
    """E over t ~ law of l equals E over uniform t of importance * l, for any l(t); both streams."""
    loss = torch.rand(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for sampled, weighted in zip(streams_of(pretrained, task, bank), streams_of(pretrained, task, bank, weighted=True)):
        assert float(sampled.law @ loss) == pytest.approx(float(weighted.law @ (weighted.importance * loss)), rel=1e-9)
        assert float(weighted.importance.mean()) == pytest.approx(1)


@pytest.mark.parametrize("weighting", ["none", "p2", "min_snr"])
def test_loss_weightings_are_those_of_their_papers(pretrained, task, bank, weighting):
    snr = pretrained.diffusion.snr
    expected = {"none": None, "p2": (1 + snr) ** -0.5, "min_snr": torch.minimum(snr, torch.tensor(5.0)) / snr}[weighting]
    for stream in streams_of(pretrained, task, bank, loss_weighting=weighting):
        assert stream.importance is None
        assert stream.eps_weight is None if expected is None else torch.allclose(stream.eps_weight, expected)


def test_p2_changes_the_loss_that_is_trained(pretrained, task, bank, tmp_path, tuned):
    weighted = tune(pretrained, task, bank, tmp_path, loss_weighting="p2", steps=1)
    assert not torch.equal(weights(weighted.model), weights(tuned.model))
    streams = streams_of(pretrained, task, bank, loss_weighting="p2")
    drawn = streams[0].draw(0, 0)
    denoiser = pretrained.copy_denoiser()
    add_rows(denoiser, pretrained, choose_rows(pretrained, 3), 0)
    with torch.no_grad():
        x_t = pretrained.diffusion.q_sample(drawn.x_0, drawn.t, drawn.noise)
        output = denoiser(x_t, drawn.t, drawn.labels)
        eps = (output[:, :4] - drawn.noise).square().flatten(1).mean(1)
        bound = hybrid_loss(output, drawn.x_0, x_t, drawn.noise, drawn.t, pretrained.diffusion) - eps
    weight = ((1 + pretrained.diffusion.snr) ** -0.5)[drawn.t].float()
    assert weighted.history["target_loss"][0] == pytest.approx(float((weight * eps + bound).mean()), rel=1e-4)


# Label rows -------------------------------------------------------------------------------------


def test_new_rows_start_near_the_null_row_and_others_are_left(pretrained):
    denoiser = pretrained.copy_denoiser()
    add_rows(denoiser, pretrained, torch.tensor([5, 6, 7]), seed=0)
    old, new = pretrained.denoiser.label_table, denoiser.label_table
    untouched = [0, 1, 2, 3, 4, 8, 9, 10, 11, 12]
    assert torch.equal(new[untouched], old[untouched])
    distance = (new[5:8] - old[12]).norm(dim=1) / (old[:5].std() * 32**0.5)
    assert bool(((distance > 0.05) & (distance < 0.2)).all())
    assert not torch.equal(new[5], new[6])


def test_rows_that_have_a_class_keep_their_start(pretrained):
    denoiser = pretrained.copy_denoiser()
    add_rows(denoiser, pretrained, torch.tensor([0, 1, 2]), seed=0)
    assert torch.equal(denoiser.label_table, pretrained.denoiser.label_table)


def test_source_rows_do_not_move_where_the_task_has_rows_of_its_own(pretrained, tuned):
    old, new = pretrained.denoiser.label_table, tuned.model.denoiser.label_table
    assert torch.equal(new[:5], old[:5]) and torch.equal(new[8:12], old[8:12])
    assert not torch.equal(new[12], old[12])  # the null row is trained
    assert tuned.rows.tolist() == [5, 6, 7]
    assert tuned.model.label_names == [*SOURCE_NAMES, "shape 0", "shape 1", "shape 2"]
    assert tuned.model.first_free_label == 8


@pytest.mark.parametrize("choice, classes, rows", [
    ("auto", 7, range(5, 12)), ("auto", 8, range(8)), ("first", 3, range(3)), ("free", 7, range(5, 12)), ("auto", 12, range(12)),
])  # fmt: skip
def test_rows_are_free_ones_where_they_suffice_else_the_first(pretrained, choice, classes, rows):
    assert choose_rows(pretrained, classes, choice).tolist() == list(rows)


@pytest.mark.parametrize(
    "choice, classes, message", [("free", 8, "8 classes need free label rows, small has 7"), ("auto", 13, "do not fit into")]
)
def test_too_many_classes_are_an_error(pretrained, choice, classes, message):
    with pytest.raises(ValueError, match=message):
        choose_rows(pretrained, classes, choice)


def test_forced_first_rows_take_the_source_names_places(pretrained, task, tmp_path):
    result = tune(pretrained, task, None, tmp_path, steps=1, label_rows="first")
    assert result.rows.tolist() == [0, 1, 2] and result.model.first_free_label == 5
    assert result.model.label_names == ["shape 0", "shape 1", "shape 2", "dot", "hook"]


def test_fine_tuning_goes_on_from_a_fine_tuned_model(pretrained, task, bank, tuned, tmp_path):
    other = small_task(classes=2, seed=1)
    again = tune(tuned.model, other, None, tmp_path / "again", steps=1)
    assert again.rows.tolist() == [8, 9] and again.model.first_free_label == 10
    # The second task's "shape 0" is another label than the first one's, and both can be asked for by name.
    assert again.model.label_names[5:] == ["shape 0", "shape 1", "shape 2", "shape 0 (shapes)", "shape 1 (shapes)"]
    assert torch.equal(again.model.denoiser.label_table[:8], tuned.model.denoiser.label_table[:8])
    third = tune(again.model, other, None, tmp_path / "third", steps=1)
    assert third.model.label_names[-2:] == ["shape 0 (shapes 2)", "shape 1 (shapes 2)"]
    with pytest.raises(ValueError, match="was sampled from another model"):
        tune(tuned.model, other, bank, tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_a_result_is_sampled_by_name_or_row(tuned):
    by_name = sample(tuned.model, ["shape 1", "ring"], steps=2)
    assert torch.equal(by_name, sample(tuned.model, [int(tuned.rows[1]), 0], steps=2)) and by_name.shape == (2, 3, 8, 8)


# Results and resuming ---------------------------------------------------------------------------


def test_the_pretrained_model_is_left_as_it_was(pretrained, task, bank, tmp_path):
    before, state = weights(pretrained).clone(), torch.get_rng_state()
    result = tune(pretrained, task, bank, tmp_path)
    assert torch.equal(weights(pretrained), before) and torch.equal(torch.get_rng_state(), state)
    assert not pretrained.denoiser.training and not result.model.denoiser.training
    assert all(weight.grad is None for weight in pretrained.denoiser.parameters())


def test_the_result_carries_the_averaged_weights(pretrained, task, bank, tmp_path):
    averages = []
    result = tune(pretrained, task, bank, tmp_path, callbacks=[lambda state: averages.append(pretrained.with_denoiser(state.ema_model()))])
    assert torch.equal(weights(result.model), weights(averages[-1]))
    assert not torch.equal(weights(averages[-1]), weights(averages[-2]))


def test_a_saved_result_opens_to_the_same_samples_history_and_settings(pretrained, task, bank, tuned_folder, tuned, tmp_path):
    again = tune(pretrained, task, bank, tuned_folder)  # finished: opened through the checkpoint
    again.save(tmp_path / "copy")
    for loaded in (tuned, load_fine_tuned(tmp_path / "copy")):
        assert torch.equal(weights(loaded.model), weights(again.model))
        assert torch.equal(sample(loaded.model, ["shape 2"], steps=3), sample(again.model, ["shape 2"], steps=3))
        assert loaded.history.equals(again.history) and loaded.config == again.config and torch.equal(loaded.rows, again.rows)
        assert loaded.model.name == "small tuned on shapes"
    assert list(again.history) == ["step", "target_loss", "bank_loss", "seconds"] and len(again.history) == 12


KILLED = """
import os, signal
from difftuning import checkpoints, finetuning
from difftuning.memory import MemoryBank
from small import small_pretrained, small_task
from test_finetuning import tune
pretrained, task, bank, folder = small_pretrained(), small_task(), MemoryBank.load(sys.argv[1]), sys.argv[2]

def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def run(prepare):
    child = os.fork()
    if child == 0:
        callbacks = prepare() or ()
        tune(pretrained, task, bank, folder, callbacks=callbacks)
        os._exit(0)
    return os.waitpid(child, 0)[1]

def at_step(number):
    return lambda: [lambda state: kill() if state.step == number else None]

def while_claiming_the_folder():
    import json
    json.dumps = kill

def while_writing_the_second_checkpoint():
    real = checkpoints.save_tensors
    def save_tensors(path, tensors):
        real(path, tensors)
        if "step-00000010" in str(path) and path.name == "ema.safetensors":
            kill()
    checkpoints.save_tensors = save_tensors

def while_saving_the_result():
    finetuning.write_json = kill

for prepare in (while_claiming_the_folder, at_step(3), at_step(8), while_writing_the_second_checkpoint, while_saving_the_result):
    assert run(prepare) == signal.SIGKILL, prepare
    assert not os.path.exists(folder + "/result.json")
assert run(lambda: None) == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_a_run_killed_again_and_again_ends_as_the_same_bits(bank, tuned, tmp_path):
    run_python(KILLED, bank.folder, tmp_path / "run")
    killed = load_fine_tuned(tmp_path / "run")
    assert torch.equal(weights(killed.model), weights(tuned.model))
    assert killed.history.drop(columns="seconds").equals(tuned.history.drop(columns="seconds"))
    left = [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert sorted(left) == ["step-00000010", "step-00000012"]


def test_more_steps_go_on_from_a_finished_run(pretrained, task, bank, tuned, tmp_path):
    tune(pretrained, task, bank, tmp_path, steps=7)
    longer = tune(pretrained, task, bank, tmp_path, checkpoint_every=2)
    assert torch.equal(weights(longer.model), weights(tuned.model)) and len(load_fine_tuned(tmp_path).history) == 12


@pytest.mark.parametrize("options, said", [
    ({"learning_rate": 2e-3, "seed": 1}, ["learning_rate was 0.001, is 0.002", "seed was 0, is 1"]),
    ({"steps": 5}, ["holds 12 steps already"]),
    ({"family": "paper"}, ["family was 'official', is 'paper'"]),
])  # fmt: skip
def test_another_configuration_is_refused_by_name_and_nothing_is_written(pretrained, task, bank, tuned_folder, options, said):
    before = contents(tuned_folder)
    with pytest.raises(ValueError) as caught:
        tune(pretrained, task, bank, tuned_folder, **options)
    assert all(part in str(caught.value) for part in said) and "\n" not in str(caught.value)
    assert contents(tuned_folder) == before


def test_another_task_model_or_bank_is_another_run(pretrained, task, bank, tuned_folder, tmp_path):
    before = contents(tuned_folder)
    noise = MemoryBank(bank.folder, bank.recipe, torch.randn_like(bank.latents), bank.labels)
    other = small_pretrained(seed=1)
    for model, data, used, field in (
        (pretrained, small_task(seed=1), bank, "task was"), (pretrained, task, None, "bank was"), (pretrained, task, noise, "bank was"),
        (other, task, small_bank(other, tmp_path / "bank"), "pretrained was"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=field):
            tune(model, data, used, tuned_folder)
    assert contents(tuned_folder) == before


def test_another_autoencoder_forward_process_or_mirroring_is_another_run(pretrained, task, bank, tuned_folder):
    """What decides the training pictures or the noise is part of a run, though the denoiser's weights be the same."""
    encoder = pretrained.with_denoiser(pretrained.copy_denoiser())
    encoder.autoencoder = small_pretrained(seed=1).autoencoder
    with pytest.raises(ValueError, match="encoder was"):
        tune(encoder, task, bank, tuned_folder)
    with pytest.raises(ValueError, match="flip was False, is True"):
        tune(pretrained, replace(task, flip=True), bank, tuned_folder)
    process = DDIMScheduler(beta_start=1e-4, beta_end=0.03, beta_schedule="linear")
    other = Pretrained(pretrained.copy_denoiser(), pretrained.autoencoder, process, label_names=pretrained.label_names)
    with pytest.raises(ValueError, match="sampled from another model"):
        tune(other, task, bank, tuned_folder)


def test_names_stand_at_their_rows_where_rows_before_them_have_none(pretrained, task, tmp_path):
    gap = pretrained.with_denoiser(pretrained.copy_denoiser(), label_names=["a", "b"], first_free_label=7)
    tuned = tune(gap, task, None, tmp_path, **PLAIN)
    assert tuned.rows.tolist() == [7, 8, 9]
    assert [tuned.model.label_names[row] for row in tuned.rows] == task.class_names and tuned.model.label_names[:3] == ["a", "b", "row 2"]


def test_steps_are_fixed_where_the_learning_rate_falls_towards_them(pretrained, task, tmp_path):
    tune(pretrained, task, None, tmp_path, steps=4, cooldown_steps=2)
    with pytest.raises(ValueError, match="steps was 4, is 6"):
        tune(pretrained, task, None, tmp_path, steps=6, cooldown_steps=2)


def test_a_finished_folder_and_a_foreign_one_are_not_overwritten(pretrained, task, bank, tuned_folder, tmp_path):
    with pytest.raises(FileExistsError, match="already holds a run: resume=True"):
        tune(pretrained, task, bank, tuned_folder, resume=False)
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(FileExistsError, match="holds something else"):
        tune(pretrained, task, bank, tmp_path)
    assert contents(tmp_path) == {"thesis.tex": b"mine"}


def test_a_foreign_file_inside_the_result_is_not_swept_away(tuned, tmp_path):
    tuned.save(tmp_path / "r")
    (tmp_path / "r" / "model" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds something that is not a model .notes.txt"):
        tuned.save(tmp_path / "r")
    assert (tmp_path / "r" / "model" / "notes.txt").read_text() == "mine"


def test_a_result_that_cannot_be_written_leaves_the_earlier_one_whole(pretrained, task, tuned, tmp_path, monkeypatch):
    """The disk fills up while the model is written, after the history."""
    tuned.save(tmp_path / "r")
    before = {path: path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file()}

    def full(self, folder, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Pretrained, "save", full)
    other = replace(tuned, history=tuned.history.iloc[:3])
    for folder in ("r", "new"):
        with pytest.raises(OSError, match="cannot be written .*No space left.*; free some space"):
            other.save(tmp_path / folder)
    assert {path: path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file()} == before
    assert not any((tmp_path / "new").iterdir())


@pytest.mark.parametrize("rows", [3, [], [99, -3, 0], [[0]]])
def test_rows_that_no_label_table_has_are_named(tuned, tmp_path, rows):
    tuned.save(tmp_path)
    record = json.loads((tmp_path / "result.json").read_text())
    (tmp_path / "result.json").write_text(json.dumps(record | {"rows": rows}))
    with pytest.raises(DamagedFileError, match="result.json is damaged .rows is"):
        load_fine_tuned(tmp_path)


def test_callbacks_are_asked_for_before_anything_is_written(pretrained, task, tmp_path):
    with pytest.raises(TypeError, match="callbacks is a sequence of functions"):
        fine_tune(pretrained, task, config=DiffTuningConfig(steps=1), folder=tmp_path / "run", callbacks=print)
    assert not (tmp_path / "run").exists()


def test_a_class_without_pictures_is_warned_of(pretrained, task, tmp_path):
    """As in a file whose labels count from 1."""
    with pytest.warns(UserWarning, match="shapes has no picture of 1 of its classes, 'shape 0' first"):
        fine_tune(pretrained, task.subset(task.labels > 0), config=DiffTuningConfig(steps=1), folder=tmp_path, progress=False)


def test_a_bank_of_another_model_or_shape_is_refused(pretrained, task, tmp_path):
    for model, message in (
        (small_pretrained(seed=1), "was sampled from another model"),
        (small_pretrained(side=8), r"holds latents \(4, 8, 8\)"),
    ):
        foreign = small_bank(model, tmp_path / message[:4], size=3)
        with pytest.raises(ValueError, match=message):
            tune(pretrained, task, foreign, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("data, options, message", [
    (small_task(side=16), {}, r"takes images of shape \(N, 3, 8, 8\)"),
    (small_task(), {"family": "threshold", "reconsolidation_power": 2.0}, "threshold is a fraction"),
    (small_task(classes=13), {}, "do not fit into a label table"),
])  # fmt: skip
def test_what_does_not_fit_together_leaves_no_folder(pretrained, bank, tmp_path, data, options, message):
    with pytest.raises(ValueError, match=message):
        tune(pretrained, data, bank, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_the_paper_family_at_tau_zero_has_no_retention_but_trains_without_a_bank(pretrained, task, bank, tmp_path):
    options = {"family": "paper", "reconsolidation_power": 0.0, "retention_power": 0.0, "steps": 1}
    with pytest.raises(ValueError, match="gives retention no weight anywhere"):
        tune(pretrained, task, bank, tmp_path / "run", **options)
    paper = tune(pretrained, task, None, tmp_path / "paper", **options)
    assert torch.equal(weights(paper.model), weights(tune(pretrained, task, None, tmp_path / "plain", steps=1, **PLAIN).model))


def test_a_half_precision_model_is_tuned_in_full_precision(pretrained, task, tmp_path):
    pretrained.save(tmp_path / "model")
    half = finetuning.load_pretrained(tmp_path / "model", dtype=torch.bfloat16)
    result = tune(half, task, None, tmp_path / "run", steps=2)
    assert result.model.dtype == torch.float32 and half.dtype == torch.bfloat16
    assert sample(result.model, ["shape 0"], steps=2).isfinite().all()


def test_a_folder_without_a_result_and_damaged_results_are_named(tuned_folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no finished fine-tuning in"):
        load_fine_tuned(tmp_path)
    copy = Path(shutil.copytree(tuned_folder, tmp_path / "copy"))
    result = (copy / "result.json").read_text()
    for content in (result[:30], result.replace('"steps"', '"stops"'), result.replace('"bank_share": 0.2', '"bank_share": 7')):
        (copy / "result.json").write_text(content)
        with pytest.raises(DamagedFileError, match="result.json"):
            load_fine_tuned(copy)


@pytest.mark.parametrize("name", [
    "history.csv", "model/difftuning.json", "model/transformer/diffusion_pytorch_model.safetensors", "model/transformer/config.json",
    "model/vae/config.json", "model/scheduler/scheduler_config.json",
])  # fmt: skip
@pytest.mark.parametrize("damage", ["cut", "altered", "missing"])
def test_a_damaged_result_is_named_and_written_anew_by_the_same_call(pretrained, task, bank, tuned_folder, tmp_path, name, damage):
    copy = Path(shutil.copytree(tuned_folder, tmp_path / "copy"))
    content, path = bytearray((copy / name).read_bytes()), copy / name
    path.unlink()
    if damage != "missing":
        content[len(content) // 2] ^= 1
        path.write_bytes(content if damage == "altered" else content[: len(content) // 2])
    with pytest.raises(DamagedFileError, match=f"{path.parent}.* or call fine_tune again"):
        load_fine_tuned(copy)
    tune(pretrained, task, bank, copy)
    assert load_fine_tuned(copy).model.fingerprint == load_fine_tuned(tuned_folder).model.fingerprint


def test_a_result_whose_model_is_of_another_run_is_named(pretrained, task, bank, tuned_folder, tmp_path):
    """As a kill between two files would leave it."""
    copy, other = Path(shutil.copytree(tuned_folder, tmp_path / "copy")), tmp_path / "other"
    tune(pretrained, task, bank, other, seed=1)
    shutil.rmtree(copy / "model")
    shutil.copytree(other / "model", copy / "model")
    with pytest.raises(DamagedFileError, match="model/difftuning.json is missing, cut off or altered"):
        load_fine_tuned(copy)


def test_a_result_without_its_model_is_not_looked_for_on_the_hub(tuned_folder, tmp_path, monkeypatch):
    shutil.copytree(tuned_folder, tmp_path / "copy", ignore=shutil.ignore_patterns("model"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DamagedFileError, match="model/difftuning.json is missing"):
        load_fine_tuned("copy")


def test_a_result_is_not_saved_over_something_else(tuned, tmp_path):
    for name, content in {"thesis": {"thesis.txt": "years"}, "pretrained": {"run.json": '{"source": 1}', "history.csv": "step"}}.items():
        (tmp_path / name).mkdir()
        for file, text in content.items():
            (tmp_path / name / file).write_text(text)
        with pytest.raises(FileExistsError, match=f"{name} is not empty and holds something else"):
            tuned.save(tmp_path / name)
        assert sorted(os.listdir(tmp_path / name)) == sorted(content)


def test_a_result_is_saved_over_itself_and_over_a_save_that_failed(tuned, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(finetuning, "write_json", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            tuned.save(tmp_path / "mine")
    for _ in range(2):
        tuned.save(tmp_path / "mine")
    assert load_fine_tuned(tmp_path / "mine").model.fingerprint == tuned.model.fingerprint


@pytest.mark.parametrize("flip", [False, True])
def test_pictures_are_encoded_once_whatever_the_steps(pretrained, tmp_path, monkeypatch, flip):
    task, encode, encoded = small_task(flip=flip), Pretrained.encode, []
    monkeypatch.setattr(Pretrained, "encode", lambda self, images: encoded.append(len(images)) or encode(self, images))
    tune(pretrained, task, None, tmp_path / "run", **PLAIN)
    assert sum(encoded) == len(task) * (2 if flip else 1)


def test_a_full_disk_or_a_bad_picture_leaves_no_folder(pretrained, task, tmp_path, monkeypatch):
    def bad(chosen):
        raise DamagedFileError("photo.png is a damaged picture")

    with pytest.raises(DamagedFileError, match="photo.png"):
        tune(pretrained, replace(task, reader=bad), None, tmp_path / "run", **PLAIN)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "total used free")(10, 10, 1000))
    with pytest.raises(OSError, match=r"\d [kM]B free"):
        tune(pretrained, task, None, tmp_path / "run", **PLAIN)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name, value", [
    ("bank_share", -0.1), ("bank_share", 1.0), ("bank_weight", -1.0), ("bank_weight", float("nan")), ("bank_weight", float("inf")),
    ("label_drop", 1.0), ("reconsolidation_power", -1.0), ("reconsolidation_power", float("inf")), ("retention_power", -0.5), ("retention_power", float("nan")), ("family", "linear"),
    ("loss_weighting", "snr"), ("bank_labels", "nul"), ("label_rows", "last"), ("steps", 0),
])  # fmt: skip
def test_a_wrong_setting_is_named_with_its_value(name, value):
    with pytest.raises(ValueError, match=name) as caught:
        DiffTuningConfig(**{"steps": 10, name: value})
    assert str(value) in str(caught.value)
