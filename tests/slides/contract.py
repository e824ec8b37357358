"""What every slide has to do, whoever reads it. A backend's test class inherits this and provides `slide`."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from wsiseg.errors import SlideError
from wsiseg.geometry import Box, Frame
from wsiseg.slides.memory import shrunk
from wsiseg.slides.slide import Slide

SCALES = (0.6, 1.0, 1.7, 2.0, 3.3)


def close(a: np.ndarray, b: np.ndarray, levels: int) -> bool:
    return a.shape == b.shape and int(np.abs(a.astype(int) - b.astype(int)).max(initial=0)) <= levels


def somewhere(frame: Frame, size: int = 120, down: float = 0.5) -> Box:
    """A box in the middle of the frame or, by `down`, above or below it; inside where the frame is large enough."""
    w, h = min(size, frame.width), min(size, frame.height)
    return Box((frame.width - w) // 2, round((frame.height - h) * down), w, h)


def _bytes_in_child(slide: Slide, box: Box, queue: multiprocessing.Queue[bytes]) -> None:
    queue.put(slide.read(box, slide.frame).tobytes())


class SlideContract:
    """Inherit, and define the fixture `slide` (of class scope: no test closes it)."""

    # Mean grey levels between a level and the shrunken level 0: rounding for generated slides, JPEG for real ones.
    level_error = 1.0
    # Where there is something to see: 0 is the top, 1 the bottom.
    down = 0.5

    @pytest.mark.parametrize("scale", SCALES)
    def test_gives_rgb_of_the_asked_size(self, slide: Slide, scale: float) -> None:
        frame = slide.frame.at(slide.frame.mpp * scale)
        box = Box(3, 5, 61, 47)
        pixels = slide.read(box, frame)
        assert pixels.shape == (47, 61, 3)
        assert pixels.dtype == np.uint8
        assert pixels.flags.c_contiguous
        assert pixels.flags.writeable

    @pytest.mark.parametrize("scale", [1.0, 2.0, 3.3])
    def test_outside_is_white(self, slide: Slide, scale: float) -> None:
        frame = slide.frame.at(slide.frame.mpp * scale)
        for box in (
            Box(-70, 3, 50, 40), Box(3, -70, 50, 40),
            Box(frame.width + 1, 0, 30, 30), Box(0, frame.height, 30, 30), Box(-10**6, 10**6, 20, 20),
        ):  # fmt: skip
            assert (slide.read(box, frame) == 255).all()
        corner = slide.read(Box(frame.width - 8, frame.height - 6, 20, 20), frame)
        assert (corner[6:] == 255).all()
        assert (corner[:, 8:] == 255).all()
        assert np.array_equal(corner[:6, :8], slide.read(Box(frame.width - 8, frame.height - 6, 8, 6), frame))

    def test_an_empty_box_is_empty(self, slide: Slide) -> None:
        assert slide.read(Box(5, 5, 0, 7), slide.frame).shape == (7, 0, 3)

    @pytest.mark.parametrize("scale", SCALES)
    def test_adjacent_boxes_are_their_union(self, slide: Slide, scale: float) -> None:
        frame = slide.frame.at(slide.frame.mpp * scale)
        whole = somewhere(frame)
        cut, low = whole.w // 3, whole.h // 2
        parts = [
            [Box(whole.x, whole.y, cut, low), Box(whole.x + cut, whole.y, whole.w - cut, low)],
            [
                Box(whole.x, whole.y + low, cut, whole.h - low),
                Box(whole.x + cut, whole.y + low, whole.w - cut, whole.h - low),
            ],
        ]
        joined = np.vstack([np.hstack([slide.read(box, frame) for box in row]) for row in parts])
        exact = any(abs(scale - n) < 1e-9 for n, _ in slide.downsamples)
        assert close(joined, slide.read(whole, frame), 0 if exact else 1)

    def test_coarse_agrees_with_fine(self, slide: Slide) -> None:
        """Catches levels that are shifted or swapped: the unshifted comparison is the best one."""
        full = slide.frame
        if min(full.width, full.height) < 200:
            pytest.skip("too small to tell a shift")
        frame = full.at(full.mpp * 4)
        if frame.scale_to(full) != (4.0, 4.0):
            frame = Frame(-(-full.width // 4), -(-full.height // 4), full.mpp * 4, full.mpp_y * 4)
        box = somewhere(frame, 200, self.down)
        box = Box(box.x, box.y, box.w // 2 * 2 - 4, box.h // 2 * 2 - 4)
        fine = slide.read(Box(box.x * 4, box.y * 4, box.w * 4, box.h * 4), full)
        expected = shrunk(fine, 4).astype(float)
        errors = {
            (dx, dy): np.abs(slide.read(box.shift(dx, dy), frame) - expected).mean()
            for dx in (-1, 0, 1)
            for dy in (-1, 0, 1)
        }
        assert errors[0, 0] == min(errors.values())
        assert errors[0, 0] <= self.level_error

    def test_a_large_box_read_in_parts_is_the_same(self, slide: Slide, monkeypatch: pytest.MonkeyPatch) -> None:
        frame = slide.frame.at(slide.frame.mpp * 1.7)
        box = somewhere(frame, 300).grow(5)
        whole = slide.read(box, frame)
        monkeypatch.setattr("wsiseg.slides.slide.PART_PX", 5000)
        assert close(slide.read(box, frame), whole, 1)

    def test_thumbnail_fits(self, slide: Slide) -> None:
        pixels, frame = slide.thumbnail(64)
        assert pixels.shape == (frame.height, frame.width, 3)
        assert max(frame.width, frame.height) <= 64
        assert frame.mpp == frame.mpp_y
        assert frame.mpp >= slide.frame.mpp

    def test_eight_threads_see_the_same(self, slide: Slide) -> None:
        frame = slide.frame.at(slide.frame.mpp * 1.3)
        boxes = [somewhere(frame, 90).shift(i * 7 % 40, i * 11 % 30) for i in range(24)]
        one_by_one = [slide.read(box, frame).tobytes() for box in boxes]
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda box: slide.read(box, frame).tobytes(), boxes * 2)) == one_by_one * 2

    def test_pickles_and_copies(self, slide: Slide) -> None:
        box = somewhere(slide.frame, 40)
        expected = slide.read(box, slide.frame)
        for other in (pickle.loads(pickle.dumps(slide)), copy.copy(slide)):
            assert other.frame == slide.frame
            assert other.backend_name == slide.backend_name
            assert other.notes == slide.notes
            assert np.array_equal(other.read(box, slide.frame), expected)

    def test_survives_a_fork(self, slide: Slide) -> None:
        if "fork" not in multiprocessing.get_all_start_methods():
            pytest.skip("this system cannot fork")
        context = multiprocessing.get_context("fork")
        box = somewhere(slide.frame, 40)
        queue = context.Queue()
        child = context.Process(target=_bytes_in_child, args=(slide, box, queue))
        child.start()
        assert queue.get(timeout=60) == slide.read(box, slide.frame).tobytes()
        child.join()

    def test_identity_is_stable(self, slide: Slide) -> None:
        identity = slide.identity
        assert set(identity) == {"name", "size", "hash"}
        assert identity == pickle.loads(pickle.dumps(slide)).identity
        assert identity["hash"].startswith("sha256:")
        assert identity["size"] > 0

    def test_facts(self, slide: Slide) -> None:
        assert slide.levels[0] == (slide.frame.width, slide.frame.height)
        assert slide.downsamples[0] == (1.0, 1.0)
        assert len(slide.downsamples) == len(slide.levels)
        assert slide.frame.box.contains(slide.bounds)
        assert slide.bounds
        assert slide.vendor
        assert slide.name in repr(slide)

    def test_closing(self, slide: Slide) -> None:
        other = copy.copy(slide)
        with other:
            pass
        other.close()
        with pytest.raises(SlideError, match="closed"):
            other.read(Box(0, 0, 4, 4), other.frame)
