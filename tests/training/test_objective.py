"""The draws follow their laws, and the loss is the weighted sum that the formula says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from difftuning.diffusion.losses import hybrid_loss
from difftuning.diffusion.process import Diffusion
from difftuning.diffusion.timestep_weights import loss_weights, p2_weight, timestep_distribution
from difftuning.training.objective import Objective, Stream
from small import small_pretrained

CPU = torch.device("cpu")
T = 1000


def stream(name: str = "target", *, size: int = 10, batch: int = 4, law: torch.Tensor | None = None, **options) -> Stream:
    latents = torch.randn(size, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    law = timestep_distribution(T, 0) if law is None else law
    return Stream(name, latents, torch.arange(size) % 5, batch, law, **options)


def gradient(model: torch.nn.Module, objective: Objective, step: int = 0, **cut) -> torch.Tensor:
    model.zero_grad()
    objective.total(objective.losses(model, step, CPU, **cut)).backward()
    return torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in model.parameters()])


@pytest.fixture(scope="module")
def model():
    return small_pretrained().denoiser


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("power", [0, 1, 3])
def test_timesteps_follow_the_law(power, descending):
    law = timestep_distribution(T, power, descending=descending)
    t = stream(batch=20_000, law=law).draw(seed=0, step=0).t
    expected = 20_000 * law.reshape(20, -1).sum(1)
    seen = torch.bincount(t // (T // 20), minlength=20)
    kept = expected > 5
    chi_square = float(((seen - expected) ** 2 / expected)[kept].sum())
    assert chi_square < 45  # 19 degrees of freedom: p = 0.0007
    assert int(seen[~kept].sum()) <= 20


@pytest.mark.parametrize("size, batch", [(7, 3), (3, 8), (8, 8), (40, 26)])
def test_every_picture_is_seen_once_before_any_is_seen_twice(size, batch):
    pictures = stream(size=size, batch=batch)
    pictures.x_0 = torch.arange(size).reshape(-1, 1, 1, 1).expand(size, 4, 4, 4)
    steps = -(-5 * size // batch)
    seen = torch.cat([pictures.draw(0, step).x_0[:, 0, 0, 0] for step in range(steps)])
    orders = [tuple(epoch.tolist()) for epoch in seen[: 5 * size].split(size)]
    assert all(sorted(order) == list(range(size)) for order in orders)
    assert len(set(orders)) > 1  # shuffled anew


def test_a_draw_depends_on_seed_stream_and_step_alone():
    first, again = stream(), stream()
    again.draw(0, 0)  # another history
    for name in ("x_0", "t", "noise", "labels"):
        assert torch.equal(getattr(first.draw(0, 3), name), getattr(again.draw(0, 3), name))
    others = [first.draw(0, 4), first.draw(1, 3), stream("bank").draw(0, 3)]
    assert all(not torch.equal(first.draw(0, 3).noise, other.noise) for other in others)


def test_two_laws_are_compared_on_the_same_noise_pictures_and_labels():
    uniform, rising = (stream(law=timestep_distribution(T, power), label_drop=0.5).draw(0, 5) for power in (0, 2))
    assert torch.equal(uniform.noise, rising.noise) and torch.equal(uniform.x_0, rising.x_0)
    assert torch.equal(uniform.labels, rising.labels)
    assert not torch.equal(uniform.t, rising.t)


def test_draws_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    stream().draw(0, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_labels_are_dropped_for_one_sample_in_ten_and_once(model):
    drawn = stream(size=50, batch=20_000, label_drop=0.1, null_label=12).draw(0, 0)
    kept = stream(size=50, batch=20_000, label_drop=0.0, null_label=12).draw(0, 0)
    dropped = drawn.labels == 12
    assert float(dropped.float().mean()) == pytest.approx(0.1, abs=0.01)
    assert torch.equal(drawn.labels[~dropped], kept.labels[~dropped])
    # The model in training mode drops none of its own: two passes agree.
    batch = (drawn.x_0[:64], drawn.t[:64], kept.labels[:64])
    assert torch.equal(model.train()(*batch), model(*batch))


def test_half_of_the_pictures_are_mirrored_where_flips_are_allowed():
    pictures = stream(batch=10_000)
    pictures.mirrored = replace(pictures, x_0=torch.full_like(pictures.x_0, 7))
    mirrored = (pictures.draw(0, 0).x_0 == 7).all(dim=(1, 2, 3))
    assert float(mirrored.float().mean()) == pytest.approx(0.5, abs=0.02)


def test_a_picture_law_decides_how_often_a_picture_comes():
    law = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    pictures = stream(size=3, batch=10_000, picture_distribution=law)
    pictures.x_0 = torch.arange(3).reshape(-1, 1, 1, 1).expand(3, 4, 4, 4)
    seen = torch.bincount(pictures.draw(0, 0).x_0[:, 0, 0, 0].long()) / 10_000
    assert torch.allclose(seen, law.float(), atol=0.02)


def test_the_loss_of_a_stream_is_the_mean_hybrid_loss(model):
    diffusion, pictures = Diffusion(), stream(label_drop=0.5, null_label=12)
    drawn = pictures.draw(0, 2)
    x_t = diffusion.q_sample(drawn.x_0, drawn.t, drawn.noise)
    expected = hybrid_loss(model(x_t, drawn.t, drawn.labels), drawn.x_0, x_t, drawn.noise, drawn.t, diffusion).mean()
    assert torch.allclose(Objective([pictures], diffusion, 0).losses(model, 2, CPU)["target"], expected, rtol=1e-6)


def test_without_learned_variance_the_loss_is_the_eps_loss():
    diffusion, pictures = Diffusion(), stream()
    drawn = pictures.draw(0, 0)
    loss = Objective([pictures], diffusion, 0).losses(lambda x_t, t, labels: x_t * 0.5, 0, CPU)["target"]
    x_t = diffusion.q_sample(drawn.x_0, drawn.t, drawn.noise)
    assert torch.allclose(loss, (0.5 * x_t - drawn.noise).square().mean())


def test_p2_weighs_the_eps_term_alone_and_importance_the_whole_loss(model):
    diffusion = Diffusion()
    weight, importance = p2_weight(diffusion.snr, gamma=0.5), torch.linspace(0, 3, T)
    drawn = stream().draw(0, 1)
    x_t = diffusion.q_sample(drawn.x_0, drawn.t, drawn.noise)
    output = model(x_t, drawn.t, drawn.labels)
    eps = (output[:, :4] - drawn.noise).square().flatten(1).mean(1)
    bound = hybrid_loss(output, drawn.x_0, x_t, drawn.noise, drawn.t, diffusion) - eps

    def loss(**options):
        return Objective([stream(**options)], diffusion, 0).losses(model, 1, CPU)["target"]

    weight_at = weight[drawn.t].float()
    assert torch.allclose(loss(eps_weight=weight), (weight_at * eps + bound).mean(), rtol=1e-5)
    assert torch.allclose(loss(timestep_weight=importance), (importance[drawn.t] * (eps + bound)).mean(), rtol=1e-5)
    both = (importance[drawn.t] * (weight_at * eps + bound)).mean()
    assert torch.allclose(loss(eps_weight=weight, timestep_weight=importance), both, rtol=1e-5)


@pytest.mark.parametrize("power, descending", [(1, False), (2, True)])
def test_weighting_has_the_expected_gradient_of_sampling(model, power, descending):
    """Summed over every t: sum_t p(t) g(t) = sum_t T p(t) g(t) / T, with the code's own laws and weights."""
    diffusion = Diffusion(torch.linspace(1e-3, 0.3, 8))
    law = timestep_distribution(8, power, descending=descending)

    def at(t: int, **options) -> torch.Tensor:
        only = torch.zeros(8, dtype=torch.float64)
        only[t] = 1
        return gradient(model, Objective([stream(law=only, **options)], diffusion, 0))

    sampled = sum(float(law[t]) * at(t) for t in range(8))
    weighted = sum(at(t, timestep_weight=loss_weights(law)) / 8 for t in range(8))
    uniform = sum(at(t) / 8 for t in range(8))
    assert torch.allclose(sampled, weighted, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(sampled, uniform, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("parts", [2, 4, 7, 8])
def test_parts_of_a_batch_add_up_to_the_gradient_of_the_whole(model, parts):
    """26 + 6 in 7 or 8 parts leaves some parts without a bank picture; the sum holds however it is cut."""
    streams = [stream(batch=26), stream("bank", batch=6, weight=0.1)]
    objective = Objective(streams, Diffusion(), 0)
    whole = gradient(model, objective)
    pieces = sum(gradient(model, objective, part=part, parts=parts) for part in range(parts))
    assert torch.allclose(whole, pieces, rtol=1e-4, atol=1e-6)
    losses = [objective.losses(model, 0, CPU, part=part, parts=parts)["bank"] for part in range(parts)]
    assert torch.allclose(sum(losses), objective.losses(model, 0, CPU)["bank"], rtol=1e-5)


def test_all_streams_go_through_the_model_in_one_batch(model):
    sizes = []

    def counting(x_t, t, labels):
        sizes.append(len(x_t))
        return model(x_t, t, labels)

    Objective([stream(batch=26), stream("bank", batch=6)], Diffusion(), 0).losses(counting, 0, CPU)
    assert sizes == [32]
