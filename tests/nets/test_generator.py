"""Complementary channel dropout in the generator."""

import torch

from wsiseg.nets.segmentation import Architecture, SegmentationNet, _complementary


def test_each_channel_is_doubled_in_one_view_and_zero_in_the_other() -> None:
    torch.manual_seed(0)
    features = torch.rand(2 + 6, 40, 3, 3) + 0.1
    features[5:] = features[2:5]  # two views of the same three images
    dropped = _complementary(features, 3)
    assert torch.equal(dropped[:2], features[:2]), "labelled images are left alone"
    assert torch.allclose(dropped[2:5] + dropped[5:], 2 * features[2:5])
    gone = (dropped[2:5] == 0).all(3).all(2)
    assert torch.equal(gone, ~(dropped[5:] == 0).all(3).all(2))
    assert 0.3 < gone.float().mean() < 0.7


def test_without_pairs_it_is_the_plain_network() -> None:
    torch.manual_seed(0)
    net = SegmentationNet(Architecture("resnet18", 3, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), 16)).eval()
    image = torch.rand(4, 3, 64, 64)
    with torch.inference_mode():
        plain = net(image)
        assert torch.allclose(plain, net.net((image - net.mean) / net.std))
        paired = net(image, 1)
    assert torch.allclose(paired[:2], plain[:2], atol=1e-5)
    assert not torch.allclose(paired[2:], plain[2:], atol=1e-3)


def test_atrous_rates_reach_the_network_and_its_description() -> None:
    """A bundle of version 0.1 says no rates and keeps those it was trained with."""
    small = Architecture("resnet18", 2, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), 16, atrous_rates=(2, 4, 7))
    assert Architecture.from_json(small.to_json()) == small
    old = small.to_json()
    del old["atrous_rates"]
    assert Architecture.from_json(old).atrous_rates == (12, 24, 36)
    used = {m.dilation[0] for m in SegmentationNet(small).net.decoder.modules() if isinstance(m, torch.nn.Conv2d)}
    assert {2, 4, 7} <= used
    assert not used & {12, 24, 36}
