"""The segmentation network: its parts, perturbed features, extra heads, atrous rates."""

from __future__ import annotations

import torch
from torch import nn

from wsiseg.methods.parts.views import ComplementaryDropout
from wsiseg.nets.segmentation import Architecture, SegmentationNet


def small() -> SegmentationNet:
    torch.manual_seed(0)
    return SegmentationNet(Architecture("resnet18", 3, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), 16)).eval()


def test_each_channel_is_doubled_in_one_view_and_zero_in_the_other() -> None:
    torch.manual_seed(0)
    features = torch.rand(2 + 80, 40, 3, 3) + 0.1
    features[42:] = features[2:42]  # two views of the same forty crops
    perturb = ComplementaryDropout(40, 0.5)
    (dropped,) = perturb([features])
    assert torch.equal(dropped[:2], features[:2]), "labelled crops are left alone"
    assert torch.allclose(dropped[2:42] + dropped[42:], 2 * features[2:42])
    gone = (dropped[2:42] == 0).all(3).all(2)
    assert torch.equal(gone[perturb.changed], ~(dropped[42:] == 0).all(3).all(2)[perturb.changed])
    assert 0.3 < gone[perturb.changed].float().mean() < 0.7
    assert torch.equal(dropped[2:42][~perturb.changed], features[2:42][~perturb.changed])
    assert 0.2 < perturb.changed.float().mean() < 0.8


def test_the_network_is_its_parts_and_features_can_be_changed_in_between() -> None:
    net, image = small(), torch.rand(4, 3, 64, 64)
    with torch.inference_mode():
        plain = net(image)
        assert torch.allclose(plain, net.net((image - net.mean) / net.std))
        assert torch.allclose(plain, net.classify(net.decode(net.encode(image))))
        changed = net(image, ComplementaryDropout(1, 1.0))
    assert torch.allclose(changed[:2], plain[:2], atol=1e-5)
    assert not torch.allclose(changed[2:], plain[2:], atol=1e-3)


def test_extra_heads_are_left_out_at_export() -> None:
    net, image = small(), torch.rand(2, 3, 64, 64)
    names = set(net.state_dict())
    net.heads["distance"] = nn.Conv2d(16, 1, 1)
    with torch.inference_mode():
        logits, heads = net(image, None, ("distance",))
        assert torch.equal(logits, net(image))
        assert heads["distance"].shape == (2, 1, 16, 16)
    assert set(net.state_dict()) > names
    exported = net.without_heads()
    assert set(exported.state_dict()) == names
    assert "distance" in net.heads, "the network itself keeps its heads"
    with torch.inference_mode():
        assert torch.equal(exported(image), logits)


def test_atrous_rates_reach_the_network_and_its_description() -> None:
    """A bundle of version 0.1 says no rates and keeps those it was trained with."""
    rates = Architecture("resnet18", 2, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), 16, atrous_rates=(2, 4, 7))
    assert Architecture.from_json(rates.to_json()) == rates
    old = rates.to_json()
    del old["atrous_rates"]
    assert Architecture.from_json(old).atrous_rates == (12, 24, 36)
    used = {m.dilation[0] for m in SegmentationNet(rates).net.decoder.modules() if isinstance(m, torch.nn.Conv2d)}
    assert {2, 4, 7} <= used
    assert not used & {12, 24, 36}
