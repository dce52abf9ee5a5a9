"""The feature net: what it promises of any weights, and the shipped one."""

import pytest
import torch

from difftuning.evaluation.feature_net import FeatureNet, load_feature_net
from difftuning.evaluation.metrics import evaluate, extract
from difftuning.support.files import read_json
from difftuning.support.world import data_folder
from small import shapes

SMALL = {"widths": (8, 8, 16), "depths": (1, 1, 1)}


def test_every_image_is_treated_alone():
    net = FeatureNet(5).eval()
    images = torch.rand(6, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        alone = torch.cat([net(image[None]) for image in images])
        assert torch.allclose(net(images), alone, atol=1e-5)


def test_the_net_is_smooth():
    net = FeatureNet(5, **SMALL).double().eval()
    images = (torch.rand(2, 3, 32, 32, dtype=torch.float64) * 2 - 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: net(x)[:, :2], images, fast_mode=True)


def test_grey_in_one_or_three_channels_is_the_same_picture():
    net = FeatureNet(5).eval()
    grey = torch.rand(2, 1, 32, 32) * 2 - 1
    assert torch.allclose(net(grey.expand(-1, 3, -1, -1)), net(grey), atol=1e-5)


def test_the_shipped_size_is_small_and_has_at_most_64_features():
    net = FeatureNet(420)
    assert 0.2e6 < sum(weight.numel() for weight in net.parameters()) < 0.6e6
    assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 64)
    assert net.logits(torch.zeros(1, 3, 32, 32)).shape == (1, 420)


def test_an_image_of_another_size_is_refused_with_the_fix():
    with pytest.raises(ValueError, match=r"\(N, 3, 32, 32\), got \(2, 3, 64, 64\): load them with size=32"):
        FeatureNet(5)(torch.zeros(2, 3, 64, 64))


# The shipped net


@pytest.fixture
def shipped():
    try:
        folder = data_folder() / "models" / "features"
    except FileNotFoundError:
        pytest.skip("the tiny world is not built yet")
    if not folder.is_dir():
        pytest.skip("data/models/features is not built yet")
    return folder


def test_the_shipped_net_tells_the_world_apart(shipped):
    card = read_json(shipped / "card.json")
    assert card["accuracy"]["source"] > 0.3
    assert not any("test" in line["set"] for line in card["trained_on"])


def test_the_shipped_net_scores_a_set_against_itself_perfectly_and_damage_as_damage(shipped):
    images = (shapes(60)[0][:, None] / 127.5 - 1).expand(-1, 3, -1, -1)
    assert extract(images).shape == (60, load_feature_net().config["num_features"])
    itself, noisy = evaluate(images, images), evaluate((images + 0.5 * torch.randn_like(images)).clamp(-1, 1), images)
    assert itself["features"] == "tiny"
    assert itself["fid"] < 1e-6 and itself["precision"] == itself["recall"] == 1
    assert noisy["fid"] > itself["fid"] and noisy["kid"] > itself["kid"]


def test_the_shipped_net_takes_32x32_only(shipped):
    with pytest.raises(ValueError, match=r"\(N, 3, 32, 32\)"):
        evaluate(torch.zeros(8, 3, 64, 64), torch.zeros(8, 3, 64, 64))
