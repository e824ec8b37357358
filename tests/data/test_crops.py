"""Crops are a pure function of seed and step, and hold what they should."""

import pickle

import numpy as np
import pytest
import torch

from wsiseg.classes import IGNORE
from wsiseg.data.crops import CELLS, CropDataset, Drawing, Pools, Stream, loader, side_for
from wsiseg.geometry import Box
from wsiseg.stores.tiles import TileStore


def dataset(stores: list[TileStore], stream: Stream = "labelled", **changes) -> CropDataset:
    options = {"batch": 4, "side": 80, "seed": 3, "object_fraction": 0.7, "jitter": 20} | changes
    return CropDataset(stream, stores, Drawing(**options))


def equal(a, b) -> bool:
    names = ("images", "labels", "covered", "slide", "position")
    return all(torch.equal(getattr(a, n), getattr(b, n)) for n in names) and a.tags == b.tags


def test_a_batch_depends_on_nothing_but_seed_and_step(labelled_stores: list[TileStore]) -> None:
    first = dataset(labelled_stores)
    later = [first[i] for i in range(5)]
    assert equal(dataset(labelled_stores)[4], later[4])
    assert equal(pickle.loads(pickle.dumps(first))[4], later[4])
    assert not equal(later[3], later[4])
    assert not equal(dataset(labelled_stores, seed=4)[4], later[4])


def test_loading_processes_change_nothing(labelled_stores: list[TileStore]) -> None:
    here = list(loader(dataset(labelled_stores), 2, 6, 0))
    there = list(loader(dataset(labelled_stores), 2, 6, 2))
    assert len(here) == len(there) == 4
    assert all(equal(a, b) for a, b in zip(here, there, strict=True))


def test_two_processes_share_one_batch(labelled_stores: list[TileStore]) -> None:
    whole = dataset(labelled_stores)[0]
    for offset in (0, 2):
        half = dataset(labelled_stores, batch=2, offset=offset)[0]
        assert equal(half, whole.part(slice(offset, offset + 2)))


def test_objects_are_in_the_middle_and_classes_are_drawn_as_told(labelled_stores: list[TileStore]) -> None:
    found = {}
    for weights in ("sqrt", "equal", (0.0, 1.0)):
        data = dataset(labelled_stores, object_fraction=1.0, jitter=0, batch=200, class_weights=weights)
        found[weights] = torch.bincount(data[0].labels[:, 40, 40].long(), minlength=3)[1:] / 200
        area = np.sqrt(data.counts.sum(0)[1:])
    assert found["sqrt"].tolist() == pytest.approx((area / area.sum()).tolist(), abs=0.1)
    assert found["equal"].tolist() == pytest.approx([0.5, 0.5], abs=0.1)
    assert found[0.0, 1.0].tolist() == [0, 1]


def test_a_batch_says_where_it_comes_from(labelled_stores: list[TileStore]) -> None:
    data = CropDataset("labelled", labelled_stores, Drawing(16, 80, 3), tags=[("pas",), ("he", "frozen")])
    batch = data[0]
    assert set(batch.slide.tolist()) == {0, 1}
    assert batch.tags == tuple(data.tags[s] for s in batch.slide)
    for i, s in enumerate(batch.slide.tolist()):
        x, y = batch.position[i].tolist()
        assert torch.equal(batch.images[i], torch.from_numpy(labelled_stores[s].read(Box(x - 40, y - 40, 80, 80))))
        assert torch.equal(batch.covered[i], batch.labels[i] != IGNORE)


def test_weights_choose_where_unlabelled_crops_are_centred(unlabelled_stores: list[TileStore]) -> None:
    pools = Pools([], unlabelled_stores, Drawing(64, 32, 5))
    before = pools.dataset("unlabelled")
    assert before is not None
    weights = torch.zeros(len(before.places), CELLS, CELLS)
    weights[7, 1, 2] = 3.0
    pools.weigh("unlabelled", weights)
    after = pools.dataset("unlabelled")
    assert after is not None
    s, i = after.places[7]
    keep = unlabelled_stores[s].tile(int(i)).keep
    batch = after[0]
    assert set(batch.slide.tolist()) == {int(s)}
    x, y = (batch.position[:, 0] - keep.x) * CELLS // keep.w, (batch.position[:, 1] - keep.y) * CELLS // keep.h
    assert (set(x.tolist()), set(y.tolist())) == ({2}, {1})
    other = Pools([], unlabelled_stores, Drawing(64, 32, 5))
    other.load_state_dict(pools.state_dict())
    again = other.dataset("unlabelled")
    assert again is not None
    assert equal(again[0], batch), "a resumed run draws the same"


def test_image_and_labels_belong_together(labelled_stores: list[TileStore]) -> None:
    batch = dataset(labelled_stores, batch=16)[0]
    images, labels = batch.images, batch.labels
    assert images.dtype == labels.dtype == torch.uint8
    pixels, names = images.numpy().astype(int), labels.numpy()
    assert pixels[names == 1].mean(0)[0] < 150 < pixels[names == 0].mean(0)[0]
    assert (images[labels == IGNORE] == 255).all(), "outside the slide it is white and without a label"


def test_unlabelled_slides_state_nothing(unlabelled_stores: list[TileStore]) -> None:
    assert (dataset(unlabelled_stores, "unlabelled")[0].labels == IGNORE).all()


def test_the_unlabelled_stream_hides_labels_that_are_there(labelled_stores: list[TileStore]) -> None:
    assert (dataset(labelled_stores, "unlabelled")[0].labels == IGNORE).all()


def test_the_side_leaves_no_corner_empty() -> None:
    assert side_for(100, 1.0, False) == 100
    assert side_for(100, 1.25, True) >= np.sqrt(2) * 125
