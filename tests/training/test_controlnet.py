"""ControlNet through `fine_tune`: the losses of both streams by hand, what is told of which picture, resuming, and stock pipelines."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionControlNetPipeline

from difftuning.config import ControlNetConfig, DiffTuningConfig
from difftuning.data import cache
from difftuning.data.captions import caption_pictures, name_pictures
from difftuning.data.conditions import KINDS, TINY_ANNOTATORS, annotate
from difftuning.data.tasks import Task
from difftuning.models.controlnet import ControlNetAdapter
from difftuning.models.pretrained import Pretrained
from difftuning.sampling import SamplingStep, sample_controlnet
from difftuning.support.random import seeded_generator
from difftuning.training.controlnet import Told, fine_tune_controlnet
from difftuning.training.fine_tuned import FineTuned, load_fine_tuned
from difftuning.training.label_rows import choose_rows
from difftuning.training.memory_bank import MemoryBank
from difftuning.training.streams import split_batch, training_streams
from small import small_bank, small_pretrained, small_task, small_text_to_image
from tests.training.helpers import contents, weights

PROMPTS = ["a small shape", "a bright shape leaning left"] * 5


@pytest.fixture(scope="module")
def base() -> Pretrained:
    return small_text_to_image()


@pytest.fixture(scope="module")
def task() -> Task:
    return small_task(size=24)


@pytest.fixture(scope="module")
def bank(base, tmp_path_factory) -> MemoryBank:
    return small_bank(base, tmp_path_factory.mktemp("bank"), size=10, labels=PROMPTS)


def tune(base, task, bank, folder, *, callbacks=(), kind="edge", told: dict | None = None, **options) -> FineTuned:
    settings = {"steps": 6, "batch_size": 8, "checkpoint_every": 3, "learning_rate": 1e-2, "bank_labels": "own", "label_drop": 0.3}
    config = DiffTuningConfig(**settings | options)
    return fine_tune_controlnet(base, task, bank, config, kind=kind, folder=folder, callbacks=callbacks, progress=False, **told or {})


@pytest.fixture(scope="module")
def tuned_folder(base, task, bank, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tuned"
    tune(base, task, bank, folder)
    return folder


def test_the_first_step_s_losses_are_those_of_the_equations(base, task, bank, tuned_folder):
    """Draws as the streams make them, everything else by hand: reconsolidation on target pairs, retention on the bank's."""
    streams = {
        "target": (base.encode(task.images).cpu(), caption_pictures(task.images, [task.class_names[k] for k in task.labels]), 7, False),
        "bank": (bank.latents, PROMPTS, 1, True),
    }
    losses = {}
    for name, (latents, prompts, count, falling) in streams.items():
        law = torch.arange(1, 1001).double()
        law = (law.flip(0) if falling else law) / law.sum()
        generator = seeded_generator(0, name, 0)
        t = torch.multinomial(law, count, replacement=True, generator=generator)
        noise = torch.randn(count, 4, 4, 4, generator=generator)
        dropped = torch.rand(count, generator=generator) < 0.3
        chosen = torch.randperm(len(latents), generator=seeded_generator(0, f"{name} order", 0))[:count]
        text = base.denoiser.embed(["" if drop else prompts[i] for drop, i in zip(dropped.tolist(), chosen.tolist())])
        kept = base.diffusion.alphas_cumprod[t].float().reshape(-1, 1, 1, 1)
        x_t = kept.sqrt() * latents[chosen] + (1 - kept).sqrt() * noise
        with torch.no_grad():  # a new ControlNet adds nothing, and the base is what it was
            losses[name] = float((base.denoiser.unet(x_t, t, text).sample - noise).square().mean())
    first = load_fine_tuned(tuned_folder).history.iloc[0]
    assert {"target": first.target_loss, "bank": first.bank_loss} == pytest.approx(losses, rel=1e-5)


def test_each_picture_is_told_its_caption_and_its_condition(base, task, bank):
    config = DiffTuningConfig(steps=1, batch_size=10, bank_labels="own")
    say, replay = Told(base.denoiser, "edge", caption_pictures), Told(base.denoiser, "edge")
    target, retained = training_streams(
        base, replace(task, flip=True), bank, config, choose_rows(base, 3), split_batch(config, bank), say, replay
    )
    names = [task.class_names[label] for label in task.labels.tolist()]
    for stream, images, prompts in (
        (target, task.images, caption_pictures(task.images, names)),
        (target.mirrored, task.images.flip(-1), caption_pictures(task.images.flip(-1), names)),
        (retained, base.decode(bank.latents).cpu(), PROMPTS),
    ):
        assert torch.equal(stream.conditions["text"], base.denoiser.tokens(prompts))
        assert torch.equal(stream.conditions["control"].float() / 255, annotate("edge", images))


def test_conditions_are_found_once_and_kept_for_the_next_run(base, task, bank, tmp_path, monkeypatch):
    """Those of the pictures, of their mirror images and of the bank's, as latents are."""
    monkeypatch.setenv("DIFFTUNING_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "SMALL_TASK", 1)
    config, say, replay = DiffTuningConfig(steps=1), Told(base.denoiser, "edge", name_pictures), Told(base.denoiser, "edge")

    def controls():
        streams = training_streams(
            base, replace(task, flip=True), bank, config, choose_rows(base, 3), split_batch(config, bank), say, replay
        )  # fmt: skip
        return [stream.conditions["control"] for stream in (streams[0], streams[0].mirrored, streams[1])]

    first = controls()
    assert len(list((tmp_path / "conditions").iterdir())) == 2
    monkeypatch.setitem(TINY_ANNOTATORS, "edge", None)
    assert all(torch.equal(again, once) for again, once in zip(controls(), first))


def test_null_labels_replay_the_bank_under_the_empty_prompt(base, task, bank):
    config = DiffTuningConfig(steps=1, batch_size=10)
    say, empty = Told(base.denoiser, "edge", name_pictures), base.denoiser.tokens([""])[0]
    replay = Told(base.denoiser, "blank")
    _, retained = training_streams(
        base, task, bank, config, choose_rows(base, 3), split_batch(config, bank), say, replay, {"text": empty}
    )  # fmt: skip
    drawn = retained.draw(seed=0, step=0)
    assert torch.equal(drawn.conditions["text"], empty.expand(2, -1)) and not bool(drawn.conditions["control"].any())


def test_only_the_controlnet_is_trained(base, tuned_folder):
    model = load_fine_tuned(tuned_folder).model
    for part in ("unet", "text_encoder"):
        assert torch.equal(weights(getattr(model.denoiser, part)), weights(getattr(base.denoiser, part)))
    fresh = small_text_to_image()
    ControlNetAdapter((16, 32))(fresh.denoiser)
    start = dict(fresh.denoiser.controlnet.named_parameters())
    moved = [name for name, weight in model.denoiser.controlnet.named_parameters() if not torch.equal(weight, start[name])]
    assert len(moved) == len(start)
    assert base.denoiser.controlnet is None and all(weight.requires_grad for weight in base.denoiser.parameters())


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_stock_pipeline_draws_the_same_pictures(task, tuned_folder, guidance):
    model, prompts, conditions = load_fine_tuned(tuned_folder).model, ["a small shape", "a bright shape"], annotate("edge", task.images[:2])
    steps: list[SamplingStep] = []
    images = sample_controlnet(model, prompts, conditions, steps=5, guidance=guidance, callback=steps.append)
    pipeline = StableDiffusionControlNetPipeline.from_pretrained(tuned_folder / "model")
    pipeline.set_progress_bar_config(disable=True)
    stock = pipeline(
        prompts, image=conditions, latents=steps[0].x_t, num_inference_steps=5, guidance_scale=guidance, output_type="pt"
    ).images  # fmt: skip
    assert float((2 * stock - 1 - images).abs().max()) < 1e-4
    other = sample_controlnet(model, prompts, 1 - conditions, steps=5, guidance=guidance)
    assert float((other - images).abs().max()) > 1e-3


def test_an_interrupted_run_goes_on_to_the_same_bits(base, task, bank, tuned_folder, tmp_path):
    def stop(state):
        if state.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(base, task, bank, tmp_path / "run", callbacks=[stop])
    assert not (tmp_path / "run" / "result.json").exists()
    tune(base, task, bank, tmp_path / "run")
    one, other = contents(tuned_folder / "model"), contents(tmp_path / "run" / "model")
    assert one == other


def test_parts_of_a_batch_add_up_and_half_precision_runs(base, task, bank, tuned_folder, tmp_path):
    whole = load_fine_tuned(tuned_folder).history
    parts = tune(base, task, bank, tmp_path / "parts", accumulation=2).history
    half = tune(base, task, bank, tmp_path / "half", mixed_precision="bf16").history
    for column in ("target_loss", "bank_loss"):
        assert parts[column].tolist() == pytest.approx(whole[column].tolist(), rel=1e-3)
        assert half[column].tolist() == pytest.approx(whole[column].tolist(), rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_controlnet_learns_its_condition(base, task, tmp_path, kind):
    """Without bank and at power 0."""
    tuned = tune(base, task, None, tmp_path, kind=kind, steps=24, reconsolidation_power=0.0)
    assert tuned.history.bank_loss.isna().all() and tuned.history.target_loss[-8:].mean() < tuned.history.target_loss[:8].mean()
    assert tuned.rows.tolist() == [0, 0, 0] and tuned.model.label_names == []


def test_another_run_is_refused(base, task, bank, tuned_folder):
    with pytest.raises(ValueError, match="conditions was 'edge difftuning.data.captions.caption_pictures', is 'depth"):
        tune(base, task, bank, tuned_folder, kind="depth")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "edges"}, "unknown condition 'edges': choose one of edge, sketch, "),
        ({"told": {"channels": (16, 32, 96, 256)}}, "shrinks pictures by 8, the autoencoder of small text by 2"),
        ({"told": {"bank_control": "none"}}, "bank_control must be 'own' or 'blank', got 'none'"),
        ({"told": {"captions": lambda images, names: ["a"]}}, "captions must give a prompt for each picture: 1 prompts for 24 pictures"),
    ],
)
def test_wrong_input_is_one_clear_line(base, task, bank, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        tune(base, task, bank, tmp_path / "run", **changes)
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize("regularizer", ["ewc", "distillation"])
def test_penalties_that_ask_a_base_without_controlnet_are_refused_before_any_work(base, task, tmp_path, regularizer):
    with pytest.raises(ValueError, match="ask the frozen base, which knows no conditions"):
        fine_tune_controlnet(base, task, kind="edge", folder=tmp_path / "run", regularizer=regularizer)
    assert not (tmp_path / "run").exists()


def test_a_controlnet_that_goes_on_may_be_held_to_what_it_was(base, task, tuned_folder, tmp_path):
    """By distillation: nothing to be seen at the first step, where both are one model, and something later; what it was stays."""
    before, again = (load_fine_tuned(tuned_folder).model for _ in range(2))
    losses = tune(before, task, None, tmp_path / "on", told={"regularizer": "distillation"}).history.distillation_loss
    assert losses[0] == 0 and losses[1:].min() > 0
    assert torch.equal(weights(before.denoiser), weights(again.denoiser))


def test_a_base_without_text_encoder_is_refused(task, tmp_path):
    message = r"a ControlNet needs a text-to-image base \(UNet and text encoder\), small is told labels"
    with pytest.raises(ValueError, match=message):
        tune(small_pretrained(), task, None, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_pictures_of_another_size_are_refused(base, tmp_path):
    with pytest.raises(ValueError, match=r"images must have shape \(N, 3, 8, 8\), got \(24, 3, 16, 16\)"):
        tune(base, small_task(size=24, side=16), None, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_controlnets_own_defaults_are_those_of_a_run_without_a_config():
    differ = {name: value for name, value in asdict(ControlNetConfig(steps=7)).items() if value != asdict(DiffTuningConfig(steps=7))[name]}
    assert differ == {"label_drop": 0.5, "bank_labels": "own"}
