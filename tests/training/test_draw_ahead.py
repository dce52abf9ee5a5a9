"""Drawn ahead or when asked for: the same bits."""

from __future__ import annotations

import pytest
import torch

from difftuning.diffusion.process import Diffusion
from difftuning.diffusion.timestep_weights import timestep_distribution
from difftuning.training.draw_ahead import StreamAhead
from difftuning.training.objective import Objective, Stream

CPU = torch.device("cpu")


def stream(**options) -> Stream:
    latents = torch.randn(20, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    return Stream("source", latents, torch.arange(20) % 5, 6, timestep_distribution(1000, 1), label_drop=0.3, null_label=5, **options)


def assert_same(one, other) -> None:
    assert all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("x_0", "t", "noise", "labels"))
    assert one.conditions.keys() == other.conditions.keys()
    assert all(torch.equal(rows, other.conditions[name]) for name, rows in one.conditions.items())


@pytest.mark.parametrize(
    "options",
    [{}, {"picture_distribution": torch.full((20,), 1 / 20).double()}, {"conditions": {"edge": torch.arange(20.0)[:, None]}}],
    ids=["epochs", "by probability", "with a condition"],
)
def test_a_stream_drawn_ahead_gives_the_same_bits(options):
    plain, ahead = stream(**options), StreamAhead(stream(**options), CPU, ahead=5, threads=3)
    for step in (*range(40), 7, 200):  # a step again, and a jump as after a resume
        assert_same(plain.draw(1, step), ahead.draw(1, step))
    assert_same(plain.draw(2, 200), ahead.draw(2, 200))
    assert ahead.waited > 0


def test_a_stream_that_was_asked_with_another_seed_before_draws_what_a_new_one_draws():
    used, ahead = stream(), StreamAhead(stream(), CPU, threads=3)
    for each in (used, ahead):
        each.draw(1, 200)
        assert_same(each.draw(2, 200), stream().draw(2, 200))  # the same epoch, in another order


def test_the_parts_of_one_batch_come_from_one_draw():
    ahead = StreamAhead(stream(), CPU)
    assert ahead.draw(0, 3) is ahead.draw(0, 3)


def test_an_objective_takes_it_for_the_stream_it_is():
    def model(x_t, t, labels):
        return torch.cat([x_t, x_t], dim=1) * (1 + labels[:, None, None, None])

    losses = [Objective([each], Diffusion(), 0).losses(model, 9, CPU)["source"] for each in (stream(), StreamAhead(stream(), CPU))]
    assert torch.equal(*losses)


def test_an_error_in_a_thread_is_raised_where_the_draw_is_asked_for():
    ahead = StreamAhead(stream(picture_distribution=torch.zeros(20).double()), CPU)
    with pytest.raises(RuntimeError, match="multinomial"):
        ahead.draw(0, 0)
