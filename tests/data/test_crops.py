"""Crops are a pure function of seed and step, and hold what they should."""

import pickle

import numpy as np
import torch

from wsiseg.classes import IGNORE
from wsiseg.data.crops import CropDataset, batches, side_for
from wsiseg.stores.tiles import TileStore


def dataset(stores: list[TileStore], **changes) -> CropDataset:
    options = {"batch": 4, "side": 80, "seed": 3, "object_share": 0.7, "jitter": 20} | changes
    return CropDataset(stores, **options)


def equal(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_batch_depends_on_nothing_but_seed_and_step(labelled_stores: list[TileStore]) -> None:
    first = dataset(labelled_stores)
    later = [first[i] for i in range(5)]
    assert equal(dataset(labelled_stores)[4], later[4])
    assert equal(pickle.loads(pickle.dumps(first))[4], later[4])
    assert not equal(later[3], later[4])
    assert not equal(dataset(labelled_stores, seed=4)[4], later[4])


def test_loading_processes_change_nothing(labelled_stores: list[TileStore]) -> None:
    here = list(batches(dataset(labelled_stores), 2, 6, 0))
    there = list(batches(dataset(labelled_stores), 2, 6, 2))
    assert len(here) == len(there) == 4
    assert all(equal(a, b) for a, b in zip(here, there, strict=True))


def test_two_processes_share_one_batch(labelled_stores: list[TileStore]) -> None:
    whole = dataset(labelled_stores)[0]
    halves = [dataset(labelled_stores, batch=2, offset=o)[0] for o in (0, 2)]
    assert equal(whole, [torch.cat(parts) for parts in zip(*halves, strict=True)])


def test_objects_are_in_the_middle_and_rare_classes_are_seen(labelled_stores: list[TileStore]) -> None:
    data = dataset(labelled_stores, object_share=1.0, jitter=0, batch=32)
    _, labels = data[0]
    middle = labels[:, 40, 40].tolist()
    assert set(middle) == {1, 2}


def test_image_and_labels_belong_together(labelled_stores: list[TileStore]) -> None:
    images, labels = dataset(labelled_stores, batch=16)[0]
    assert images.dtype == labels.dtype == torch.uint8
    pixels, names = images.numpy().astype(int), labels.numpy()
    assert pixels[names == 1].mean(0)[0] < 150 < pixels[names == 0].mean(0)[0]
    assert (images[labels == IGNORE] == 255).all(), "outside the slide it is white and without a label"


def test_unlabelled_slides_state_nothing(unlabelled_stores: list[TileStore]) -> None:
    _, labels = dataset(unlabelled_stores)[0]
    assert (labels == IGNORE).all()


def test_the_side_leaves_no_corner_empty() -> None:
    assert side_for(100, 1.0, False) == 100
    assert side_for(100, 1.25, True) >= np.sqrt(2) * 125
