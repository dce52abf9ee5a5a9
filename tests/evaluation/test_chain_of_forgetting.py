from types import SimpleNamespace

import pytest
import torch

from difftuning.evaluation.chain_of_forgetting import chain_tenths, denoiser_replacement, loss_ratio, timestep_losses, zero_shot_denoising
from difftuning.evaluation.metrics import evaluate
from difftuning.sampling import sample
from difftuning.support.random import seeded_generator
from small import small_pretrained, small_text_to_image


def test_timestep_losses_equal_a_loop_over_single_pictures(small_model):
    images = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    labels = torch.tensor([0, 1, 2, 3, small_model.null_label])
    timesteps = [0, 40, 700]
    losses = timestep_losses(small_model, images, labels, timesteps, seed=3, batch_size=2)
    for t, loss in zip(timesteps, losses):
        noise = torch.randn(5, *small_model.latent_shape, generator=seeded_generator(3, "timestep loss", t))
        a = small_model.diffusion.alphas_cumprod[t]
        errors = []
        for image, label, eps in zip(images, labels, noise):
            x_t = a.sqrt().float() * small_model.encode(image[None])[0] + (1 - a).sqrt().float() * eps
            with torch.no_grad():
                predicted = small_model.denoiser(x_t[None], torch.tensor([t]), label[None])[0, : len(eps)]
            errors.append(((predicted - eps) ** 2).mean())
        assert float(loss) == pytest.approx(float(torch.stack(errors).mean()), rel=1e-4)


def test_each_picture_s_loss_is_that_under_its_own_conditions():
    model = small_text_to_image()
    images, nulls = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1, torch.zeros(5, dtype=torch.int64)
    text = model.denoiser.tokens(["a small shape", "", "a bright shape", "leaning left", "a shape"])
    together = timestep_losses(model, images, nulls, [500], batch_size=2, conditions={"text": text})
    noise = torch.randn(5, 4, 4, 4, generator=seeded_generator(0, "timestep loss", 500))
    x_t = model.diffusion.q_sample(model.encode(images), torch.full((5,), 500), noise)
    alone = [
        (model.predict(x[None], torch.tensor([500]), None, text=words[None])[0] - eps).square().mean() for x, words, eps in zip(x_t, text, noise)
    ]  # fmt: skip
    assert float(together) == pytest.approx(float(torch.stack(alone).mean()), rel=1e-5)
    other = timestep_losses(model, images, nulls, [500], conditions={"text": text.flip(0)})
    assert abs(float(other) - float(together)) > 1e-6


def test_the_loss_ratio_of_a_model_to_itself_is_one(small_model):
    images, labels = torch.zeros(3, 3, 32, 32), torch.tensor([0, 1, 2])
    result = loss_ratio(small_model, small_model, images, labels, [5, 500])
    assert result["ratio"].tolist() == [1, 1] and result["timesteps"].tolist() == [5, 500]
    assert torch.equal(result["before"], result["after"])


def test_a_worse_model_has_a_loss_ratio_above_one(small_model):
    """The ratio is the second model's loss over the first's: one whose noise is far off has forgotten."""
    worse = small_model.with_denoiser(small_model.copy_denoiser())
    with torch.no_grad():
        worse.denoiser.transformer.proj_out_2.bias += 1000
    result = loss_ratio(small_model, worse, torch.zeros(4, 3, 32, 32), torch.zeros(4, dtype=torch.int64), [10, 900])
    assert (result["ratio"] > 10).all() and (result["after"] > 1e5).all()


def test_tenths_cover_the_chain_evenly():
    tenths = chain_tenths(1000, each=4)
    assert tenths.shape == (10, 4)
    assert ((tenths // 100) == torch.arange(10)[:, None]).all()
    assert tenths.double().mean() == pytest.approx(499.5, abs=1)


def test_half_precision_models_are_measured_in_their_own_precision(small_model):
    """bfloat16 keeps 8 bits: their losses are those of float32 to about a percent."""
    half = small_model.with_denoiser(small_model.copy_denoiser().bfloat16())
    images, labels = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1, torch.arange(6) % 5
    found = loss_ratio(small_model, half, images, labels, [100, 900])["ratio"]
    torch.testing.assert_close(found, torch.ones(2, dtype=torch.float64), rtol=0, atol=0.05)


def test_a_label_outside_the_table_is_named(small_model):
    with pytest.raises(ValueError, match=r"label 1001 is outside 0..1000 \(the null label\)"):
        timestep_losses(small_model, torch.zeros(2, 3, 32, 32), torch.tensor([0, 1001]), [100])


def test_labels_and_images_must_match_in_number(small_model):
    with pytest.raises(ValueError, match="got 2 labels and 3 images"):
        timestep_losses(small_model, torch.zeros(3, 3, 32, 32), torch.tensor([0, 1]), [1])


def pictures(count, seed=0):
    """Grey noise, (count, 3, 32, 32)."""
    return (torch.rand(count, 1, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1).expand(-1, 3, -1, -1)


def test_zero_shot_denoising_without_a_step_left_is_the_models_own_estimate(small_model):
    """From t = 0 the chain has one step, which returns the estimate of x_0."""
    images = pictures(3)
    found = zero_shot_denoising(small_model, images, [0], seed=4)
    latents = small_model.encode(images)
    noise = torch.randn(latents.shape, generator=seeded_generator(4, "zero-shot denoising", 0))
    t = torch.zeros(3, dtype=torch.int64)
    x_t = small_model.diffusion.q_sample(latents, t, noise)
    with torch.no_grad():
        eps = small_model.denoiser(x_t, t, torch.full((3,), small_model.null_label)).chunk(2, 1)[0]
    expected = small_model.decode(small_model.diffusion.predict_x0(x_t, t, eps))
    torch.testing.assert_close(found["denoised"][0], expected, atol=1e-3, rtol=0)  # two orders of float32 sums
    torch.testing.assert_close(found["noisy"][0], small_model.decode(x_t))


def test_zero_shot_errors_are_pixel_means_against_the_reconstruction(small_model):
    images = pictures(2)
    found = zero_shot_denoising(small_model, images, [10, 600], steps=5)
    shapes = {name: tuple(value.shape) for name, value in found.items()}
    assert shapes == {"timesteps": (2,), "noisy": (2, 2, 3, 32, 32), "denoised": (2, 2, 3, 32, 32), "error": (2, 2)}
    reached = small_model.decode(small_model.encode(images))
    for level in range(2):
        for picture in range(2):
            gap = (found["denoised"][level, picture] - reached[picture]).double()
            assert float(found["error"][level, picture]) == pytest.approx(float((gap * gap).mean()), rel=1e-6)
    assert torch.equal(found["denoised"], zero_shot_denoising(small_model, images, [10, 600], steps=5)["denoised"])


# an untrained decoder draws colours
colours = pytest.mark.filterwarnings("ignore:the tiny feature net sees brightness only")


@pytest.fixture
def tuned(other_model):
    """Another network under the same autoencoder, with two of the labels as its task's classes."""
    return SimpleNamespace(model=other_model, rows=torch.tensor([3, 1]))


@colours
def test_replacement_scores_are_those_of_samples_that_switch_denoisers(small_model, tuned):
    """The shared chain gives what `sample(switch_to=...)`, written independently, gives one by one."""
    reference = pictures(12)
    fractions = [0, 0.2, 0.5, 1]
    found = denoiser_replacement(tuned, small_model, fractions, reference, seed=2, samples=9, steps=10)
    assert found["fractions"].tolist() == fractions and found["switch_at"].tolist() == [0, 200, 500, 1000]
    labels = torch.tensor([3, 1] * 4 + [3])
    for index, switch_at in enumerate([0, 200, 500, 1000]):
        images = sample(tuned.model, labels, steps=10, guidance=1.5, seed=2, switch_to=small_model, switch_at=switch_at)
        scores = evaluate(images, reference)
        for name in ("fid", "kid", "precision", "recall"):
            assert float(found[name][index]) == pytest.approx(scores[name], rel=1e-4, abs=1e-6), (name, switch_at)


@colours
def test_replacing_by_the_same_model_unguided_under_the_null_label_changes_nothing(small_model):
    same = SimpleNamespace(model=small_model, rows=torch.tensor([small_model.null_label]))
    found = denoiser_replacement(same, small_model, [0, 0.4, 1], pictures(8), samples=8, steps=5, guidance=1)
    torch.testing.assert_close(found["fid"], found["fid"][:1].expand(3), rtol=1e-6, atol=1e-9)


@colours
def test_a_tuned_model_alone_finds_its_labels_by_the_tasks_names(small_model):
    model = small_model.with_denoiser(small_model.denoiser, label_names=[*small_model.label_names, "ring (shapes)", "wave"])
    reference = SimpleNamespace(images=pictures(8), class_names=["ring", "wave"], name="shapes")
    by_names = denoiser_replacement(model, small_model, [0.5], reference, samples=8, steps=2)
    by_rows = denoiser_replacement(
        SimpleNamespace(model=model, rows=torch.tensor([5, 6])), small_model, [0.5], reference, samples=8, steps=2
    )
    assert by_names["fid"].tolist() == by_rows["fid"].tolist()
    with pytest.raises(ValueError, match="pass what fine_tune returned"):
        denoiser_replacement(model, small_model, [0.5], reference.images)


def test_a_fraction_outside_the_chain_is_named(small_model, tuned):
    with pytest.raises(ValueError, match="got 1.5"):
        denoiser_replacement(tuned, small_model, [0, 1.5], pictures(8))


@pytest.mark.parametrize("timesteps", [[0.5, 0.9], [], [-1], [1000]])
def test_timesteps_that_are_no_places_in_the_chain_are_refused(timesteps):
    model, images = small_pretrained(), torch.zeros(2, 3, 8, 8)
    for measure in (
        lambda: zero_shot_denoising(model, images, timesteps),
        lambda: loss_ratio(model, model, images, torch.tensor([0, 1]), timesteps),
    ):
        with pytest.raises(ValueError, match="timesteps must be whole numbers in 0..999"):
            measure()


def test_no_images_have_no_loss():
    model = small_pretrained()
    with pytest.raises(ValueError, match="there must be images"):
        loss_ratio(model, model, torch.zeros(0, 3, 8, 8), torch.zeros(0).long(), [5])
