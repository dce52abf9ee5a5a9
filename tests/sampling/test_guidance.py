"""Which model is asked what at each timestep, and how the answers are put together."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import difftuning as dt
from difftuning.diffusion.process import Diffusion
from difftuning.models.pretrained import Pretrained
from difftuning.sampling import SamplingStep, sample_latents
from small import small_pretrained
from tests.sampling.helpers import SHAPE, eps_and_variance, first_noise, spied


def test_guidance_goes_from_the_null_branch_through_the_conditional_one(small_model):
    """One step from a given state: eps = u + w (c - u)."""
    x = first_noise(2, seed=1)
    c, u = eps_and_variance(small_model, x, 0, [1, 2])[0], eps_and_variance(small_model, x, 0, [1000, 1000])[0]
    assert float((c - u).abs().mean()) > 0.01
    for w in (0.0, 1.0, 1.5, 4.0):
        expected = Diffusion().predict_x0(x, 0, u + w * (c - u))  # the last DDIM step ends on the estimate of x_0
        torch.testing.assert_close(sample_latents(small_model, [1, 2], start=(x, 0), guidance=w), expected, rtol=1e-4, atol=1e-4)


def test_guidance_1_calls_the_conditional_branch_alone(small_model):
    with spied(small_model) as calls:
        sample_latents(small_model, [1, 4], steps=3, guidance=1)
    assert [(t, labels) for _, t, labels, _ in calls] == [(666, [1, 4]), (333, [1, 4]), (0, [1, 4])]


def test_guidance_asks_for_the_labels_and_the_null_label(small_model):
    with spied(small_model) as calls:
        sample_latents(small_model, [1, 4], steps=2, guidance=1.5)
    assert [t for _, t, _, _ in calls] == [500, 0]
    for _, _, labels, x in calls:
        assert labels == [1, 4, 1000, 1000]
        assert torch.equal(x[:2], x[2:])


def test_domain_guidance_takes_the_null_branch_of_the_guide(small_model, other_model):
    x = first_noise(2, seed=1)
    with spied(small_model, other_model) as calls:
        ours = sample_latents(small_model, [1, 2], start=(x, 0), guidance=2.5, guide=other_model)
    assert [(which, labels) for which, _, labels, _ in calls] == [(0, [1, 2]), (1, [1000, 1000])]
    c, u = eps_and_variance(small_model, x, 0, [1, 2])[0], eps_and_variance(other_model, x, 0, [1000, 1000])[0]
    torch.testing.assert_close(ours, Diffusion().predict_x0(x, 0, u + 2.5 * (c - u)), rtol=1e-4, atol=1e-4)


def test_a_model_that_guides_itself_is_classifier_free_guidance(small_model):
    options = {"steps": 4, "guidance": 2.0, "seed": 3}
    plain = sample_latents(small_model, [0, 1], **options)
    torch.testing.assert_close(sample_latents(small_model, [0, 1], guide=small_model, **options), plain, rtol=1e-3, atol=1e-3)


def test_guide_and_successor_may_have_another_precision(small_model, other_model):
    """bfloat16 keeps 8 bits of each of a few steps: near, but not the same."""
    half = other_model.with_denoiser(other_model.copy_denoiser().bfloat16())
    for options in ({"guide": other_model}, {"switch_to": other_model, "switch_at": 500}):
        role = next(iter(options))
        whole = sample_latents(small_model, [0, 1], steps=4, guidance=1.5, **options)
        mixed = sample_latents(small_model, [0, 1], steps=4, guidance=1.5, **options | {role: half})
        assert not torch.equal(whole, mixed) and float((whole - mixed).abs().mean() / whole.abs().mean()) < 0.05


def test_guide_may_have_a_null_label_of_another_number(small_model):
    class Guide(nn.Linear):  # any module with weights
        latent_shape, null_label, learned_variance, asked = SHAPE, 3, True, ()

        def forward(self, x_t, t, labels):
            self.asked = (*self.asked, labels.tolist())
            return torch.zeros(len(x_t), 8, 8, 8)

    guide = Pretrained(Guide(1, 1), small_model.autoencoder, small_model.scheduler, label_names=["a"])
    sample_latents(small_model, [0, 1], steps=2, guide=guide)
    assert guide.denoiser.asked == ([3, 3], [3, 3])


@pytest.mark.parametrize("switch_at, before", [(0, [800, 600, 400, 200, 0]), (400, [800, 600, 400]), (401, [800, 600]), (1000, [])])
def test_switch_takes_over_exactly_below_its_timestep(small_model, other_model, switch_at, before):
    with spied(small_model, other_model) as calls:
        sample_latents(small_model, [1, 4], steps=5, guidance=2.0, switch_to=other_model, switch_at=switch_at)
    assert [t for which, t, _, _ in calls if which == 0] == before
    assert [t for which, t, _, _ in calls if which == 1] == [t for t in (800, 600, 400, 200, 0) if t not in before]
    assert all(labels == [1, 4, 1000, 1000] for which, _, labels, _ in calls if which == 0)
    assert all(labels == [1000, 1000] for which, _, labels, _ in calls if which == 1)  # its null label, unguided


def test_switching_at_either_end_is_a_pure_run(small_model, other_model):
    options = {"steps": 5, "seed": 6}
    never = sample_latents(small_model, [1, 4], switch_to=other_model, switch_at=0, **options)
    assert torch.equal(never, sample_latents(small_model, [1, 4], **options))
    always = sample_latents(small_model, [1, 4], switch_to=other_model, switch_at=1000, **options)
    assert torch.equal(always, sample_latents(other_model, [1000, 1000], guidance=1, **options))
    between = sample_latents(small_model, [1, 4], switch_to=other_model, switch_at=500, **options)
    assert min(float((between - end).abs().max()) for end in (never, always)) > 0.01


def test_switching_is_two_runs_put_together(small_model, other_model):
    """First model from the noise down to t = 400, second one from there."""
    states: list[SamplingStep] = []
    sample_latents(small_model, [1, 4], steps=5, guidance=1, seed=6, callback=states.append)
    at_400 = next(step for step in states if step.t == 400)
    rest = sample_latents(other_model, [1000, 1000], steps=5, guidance=1, start=(at_400.x_t, 400))
    whole = sample_latents(small_model, [1, 4], steps=5, guidance=1, seed=6, switch_to=other_model, switch_at=401)
    torch.testing.assert_close(whole, rest, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options, message", [
    ({"guidance": "1.5"}, "guidance must be a number, got '1.5'"), ({"guidance": True}, "guidance must be a number, got True"),
    ({"guidance": float("nan")}, "guidance must be a finite number"), ({"guidance": float("inf")}, "guidance must be a finite number"),
    ({"switch_at": 0.5}, "switch_at must be a whole number, got 0.5"), ({"switch_at": 10}, "switch_to and switch_at go together"),
])  # fmt: skip
def test_errors_name_the_bad_value(small_model, options, message):
    with pytest.raises(ValueError, match=message):
        sample_latents(small_model, [0], steps=2, **options)


def test_a_guide_of_another_forward_process_or_device_is_refused(small_model):
    other = small_model.with_denoiser(small_model.denoiser)
    other.diffusion = Diffusion(torch.linspace(1e-4, 0.03, 1000))
    with pytest.raises(ValueError, match="guide has another forward process"):
        sample_latents(small_model, [0], steps=2, guide=other)
    other.diffusion = Diffusion(torch.linspace(1e-4, 0.02, 500))
    with pytest.raises(ValueError, match="switch_to has another forward process"):
        sample_latents(small_model, [0], steps=2, switch_to=other, switch_at=100)
    away = small_model.with_denoiser(small_model.copy_denoiser().to("meta"))
    with pytest.raises(ValueError, match="guide is on meta, the model on cpu"):
        sample_latents(small_model, [0], steps=2, guide=away)


def test_switching_without_a_place_or_beyond_the_chain_is_refused(small_model, other_model):
    with pytest.raises(ValueError, match="switch_to and switch_at go together"):
        dt.sample(small_model, [0], switch_to=other_model)
    with pytest.raises(ValueError, match="switch_at must be between 0 and 1000, got 1001"):
        dt.sample(small_model, [0], switch_to=other_model, switch_at=1001)


@pytest.mark.parametrize("role", [{"guide": True}, {"switch_to": True, "switch_at": 5}])
def test_a_partner_with_other_latents_is_refused(small_model, role):
    partner = {name: small_pretrained() if value is True else value for name, value in role.items()}
    with pytest.raises(ValueError, match=rf"{next(iter(role))} works on latents \(4, 4, 4\), the model on \(4, 8, 8\)"):
        dt.sample(small_model, [0], **partner)
