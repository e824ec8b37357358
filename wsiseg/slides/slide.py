"""The only access to pixels: choice of level, resampling and padding happen here and nowhere else.

    target frame     which pixels are wanted, at any µm/px
        │            × downsample of the best level: the coarsest one that is not coarser than the target; a decoder
        │            may offer more of them than the file has (`ReducingBackend`)
    level region     float box, plus a margin as wide as the resampling filter
        │            backend.read of what lies inside the level; the rim repeats the level's outermost pixels
    resampled        filter weights anchored to the slide: the same for every box
        │
    array            what lies outside the slide is white

The plane is the one OpenSlide and QuPath use: level 0 as stored, with no rotation by EXIF or TIFF orientation tags and
no cropping to the scanner's bounds. Colours are as stored: no ICC profile is applied.
"""

from __future__ import annotations

import copy
import os
import stat
import threading
import time
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from wsiseg.errors import SlideError, WsisegError
from wsiseg.geometry import Box, Frame
from wsiseg.slides.backend import Backend, JpegBackend, Pixels, ReducingBackend, Scale, downsample, reason, unreadable
from wsiseg.slides.resample import resample, source_box
from wsiseg.slides.resolution import chosen

WHITE = 255
CHECK_SECONDS = 1.0  # between two looks at whether the file is still the same

Stamp = tuple[int, ...]

# A larger piece of a level is read in parts: 2**24 px are 50 MB as RGB, and Pillow takes the box in 32-bit floats,
# which are exact to 1/1000 px only up to about 8000 px.
PART_PX = 2**24

# Source px per px of the frame: what a decoder has shrunk is shrunk on by a whole number or by this much at least. In
# between, two filters in a row blur: by 2 to 3 grey levels on a sharp slide, against 1.2 from here on.
LEAST_REST = 1.75


@dataclass(frozen=True, slots=True)
class _Source:
    """A plane of pixels that a frame can be made from.

    Attributes:
        level: index into the backend's levels
        factor: by which the decoder shrinks that level, 1 for the level itself
        size: (width, height) in px
        scale: level-0 px per px along x and y
    """

    level: int
    factor: int
    size: tuple[int, int]
    scale: Scale


# The slide's plane in px of a frame, the source to read from, and its px per px of the frame along x and y
_View = tuple[Box, _Source, Scale]


class Slide:
    """An open slide.

    Reading is safe from several threads. A slide pickles, and survives a fork, by opening its file again.

    Attributes:
        path: where the slide is; the name of a slide in memory
        name: file name with suffix
        frame: level 0, the plane of the whole slide
        levels: (width, height) of every level, for people; reading needs no knowledge of levels
        downsamples: level-0 px per px of every level along x and along y
        stated_mpp: µm/px of level 0 along x and y as the file states it, used or not; None if it states nothing credible
        bounds: the non-empty region in px of level 0 as the header states it, else the whole plane
        vendor: the scanner or format family as the reader names it
        properties: what the header says, as text
        series: number of the image in a file of several, 0 in others
        backend_name: which reader was chosen, a key of `BACKENDS`
        cautions: what a person should know before using the pixels, such as that tiles are missing
        notes: the cautions, and why earlier backends refused the slide
        scaled_decoding: whether the decoder shrinks the pixels that lie between two levels; it changes them by a grey
            level or so, and is a part of what an output was made from
    """

    def __init__(
        self,
        backend: Backend,
        mpp: float | None = None,
        notes: tuple[str, ...] = (),
        *,
        scaled_decoding: bool = True,
        stamp: Stamp | None = None,
    ) -> None:
        """Wraps an open backend.

        Args:
            backend: the reader; the slide closes it
            mpp: µm/px of level 0 along both axes; wins over what the file states
            notes: kept as `notes`
            scaled_decoding: let the decoder shrink, where the backend can do that; False decodes everything and
                shrinks it afterwards
            stamp: size and time of the file when another process opened it; None for a slide that is opened anew

        Raises:
            SlideError: the file is another one than the stamp says
            ResolutionError: neither the file nor `mpp` says how many µm a pixel is.
        """
        self.path, self.name, self.backend_name = backend.path, Path(backend.path).name, backend.name
        self.cautions, self.notes = backend.notes, notes
        self.vendor, self.series, self.properties = backend.vendor, backend.series, dict(backend.properties)
        self.stated_mpp, self.levels = backend.mpp, backend.levels
        self.frame = Frame(*backend.levels[0], *chosen(backend.mpp, backend.mpp_doubt, mpp, self.name))
        self.bounds = (backend.bounds or self.frame.box).overlap(self.frame.box)
        self.downsamples = tuple(downsample(backend.levels[0], size) for size in backend.levels)
        self._backend, self._override, self._allowed = backend, mpp, scaled_decoding
        self._process, self._lock, self._closed = os.getpid(), threading.Lock(), False
        reductions: tuple[tuple[int, ...], ...] = ((),) * len(backend.levels)
        if scaled_decoding and isinstance(backend, ReducingBackend):
            reductions = backend.reductions
        self._sources = tuple(
            _Source(level, factor, (w // factor, h // factor), (x * factor, y * factor))
            for level, ((w, h), (x, y)) in enumerate(zip(backend.levels, self.downsamples, strict=True))
            for factor in (1, *reductions[level])
        )
        self.scaled_decoding = any(source.factor > 1 for source in self._sources)
        self._stamp = _stamp_of(backend.path) if stamp is None else stamp
        self.check_unchanged()
        self._last: tuple[Frame, _View] = self.frame, (self.frame.box, self._sources[0], (1.0, 1.0))

    @cached_property
    def _identity(self) -> dict[str, Any]:
        return self._backend.identity() | ({"series": self.series} if self.series else {})

    @property
    def identity(self) -> dict[str, Any]:
        """Name, size in bytes and hash of the file, and the series where it is not the first.

        `wsiseg.slides.backend.identity_of` says what the hash does not see.
        """
        return dict(self._identity)

    def read(self, box: Box, frame: Frame) -> Pixels:
        """The pixels of a box, whatever µm/px its frame has.

        Adjacent boxes fit: their pixels are those of one larger read, exactly where a level has the frame's very
        resolution or a whole number of times as many pixels, else within 1 grey level (rounding of the filter weights).

        Args:
            box: px of `frame`; may lie partly or wholly outside the slide
            frame: a plane over this slide, coarser or finer than level 0, square pixels or not

        Returns:
            uint8 (box.h, box.w, 3), RGB; white outside the slide. A pixel that the slide's edge cuts is the slide's.

        Raises:
            SlideError: the pixels cannot be read; the message names the slide and the box in level-0 px.
        """
        plane, source, scale = self._view(frame)
        inside = box.overlap(plane)
        if scale == (1.0, 1.0) and inside == box and 0 < box.area <= PART_PX:
            return self._pixels(source, box)  # the common case, and the fast one: nothing is copied
        out = np.full((*box.shape, 3), WHITE, np.uint8)
        if inside:
            self._fill(out[inside.relative_to(box).slices], inside, frame)
        return out

    def jpeg(self, box: Box, frame: Frame) -> bytes | None:
        """The slide's own JPEG file of a box, not decoded; see `JpegBackend.jpeg_tile`.

        None where the frame is not a level of the slide or the box none of its tiles.

        Raises:
            SlideError: the tile is damaged
        """
        _, source, scale = self._view(frame)
        backend = self._own_backend()
        if scale != (1.0, 1.0) or source.factor > 1 or not isinstance(backend, JpegBackend):
            return None
        try:
            return backend.jpeg_tile(source.level, box)
        except (ValueError, EOFError) as error:
            raise unreadable(self._backend, source.level, box, reason(error, self.path)) from error

    def thumbnail(self, max_px: int) -> tuple[Pixels, Frame]:
        """The whole slide with square pixels, its longer side at most `max_px` px, never finer than level 0.

        Returns:
            uint8 (h, w, 3) and the frame these pixels are.
        """
        full = self.frame
        coarsest = max(full.width * full.mpp, full.height * full.mpp_y) / max_px
        frame = full.at(max(coarsest, full.mpp, full.mpp_y))
        return self.read(frame.box, frame), frame

    def check_unchanged(self) -> None:
        """Called now and then while pixels are read, and by whoever has read all that an output is made from.

        Raises:
            SlideError: the file is not the one that was opened: it has been written to, replaced or removed
        """
        self._checked_at = time.monotonic()
        if self._stamp != _stamp_of(self.path):
            raise SlideError(
                f"{self.name} has changed since it was opened, so its pixels may be those of two files: "
                "let the copy end, and start again."
            )

    def close(self) -> None:
        """Closes the file; reading afterwards raises SlideError."""
        if not self._closed:
            self._closed = True
            self._backend.close()

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __copy__(self) -> Slide:
        self.check_unchanged()
        return self._opened_again(copy.copy(self._backend))()

    def __reduce__(self) -> tuple[Any, ...]:
        return self._opened_again(self._backend), ()

    def _opened_again(self, backend: Backend) -> partial[Slide]:
        return partial(Slide, backend, self._override, self.notes, scaled_decoding=self._allowed, stamp=self._stamp)

    def __repr__(self) -> str:
        f = self.frame
        return f"Slide({self.name!r}, {f.width} × {f.height} px, {f.mpp:g} µm/px, {self.backend_name})"

    def _fill(self, out: Pixels, box: Box, frame: Frame) -> None:
        """Writes a box into `out`, in parts if it needs a large piece of its level."""
        _, source, scale = self._view(frame)
        if box.w * scale[0] * box.h * scale[1] > PART_PX and box.area > 1:
            across = box.w * scale[0] >= box.h * scale[1] and box.w > 1
            x, y = (box.x + box.w // 2, box.bottom) if across else (box.right, box.y + box.h // 2)
            corner = (x, box.y) if across else (box.x, y)
            for part in (Box.from_bounds(box.x, box.y, x, y), Box.from_bounds(*corner, box.right, box.bottom)):
                self._fill(out[part.relative_to(box).slices], part, frame)
            return
        if scale == (1.0, 1.0):
            out[:] = self._pixels(source, box)
            return
        left, top, right, bottom = box.x * scale[0], box.y * scale[1], box.right * scale[0], box.bottom * scale[1]
        region = source_box((left, top, right, bottom), scale)
        crop = (left - region.x, top - region.y, right - region.x, bottom - region.y)
        out[:] = resample(self._pixels(source, region), crop, (box.w, box.h), scale)

    def _view(self, frame: Frame) -> _View:
        """How to read in a frame; that of the last frame is kept, for a small read takes not much longer."""
        frame_before, view = self._last
        if frame is not frame_before:
            view = (self.frame.map(self.frame.box, to=frame), *self._source_for(frame))
            self._last = frame, view
        return view

    def _source_for(self, frame: Frame) -> tuple[_Source, Scale]:
        """The coarsest source that is not coarser than the frame, and its px per px of the frame along x and y."""
        wanted = frame.scale_to(self.frame)
        best = self._sources[0]
        for source in self._sources:
            have = source.scale
            fits = have[0] <= wanted[0] * (1 + 1e-6) and have[1] <= wanted[1] * (1 + 1e-6)
            if source.factor > 1:
                rest = _whole(wanted[0] / have[0]), _whole(wanted[1] / have[1])
                fits = fits and all(r.is_integer() or r >= LEAST_REST for r in rest)
            # Of two as coarse, the one that its decoder shrinks less has less to decode.
            if fits and (have[0], -source.factor) >= (best.scale[0], -best.factor):
                best = source
        return best, (_whole(wanted[0] / best.scale[0]), _whole(wanted[1] / best.scale[1]))

    def _pixels(self, source: _Source, region: Box) -> Pixels:
        """A region of a source; beyond its edge its outermost pixels go on."""
        width, height = source.size
        # A region can lie wholly behind the last pixel of a level that was rounded down; one pixel is always read.
        left, top = min(max(region.x, 0), width - 1), min(max(region.y, 0), height - 1)
        right, bottom = max(min(region.right, width), left + 1), max(min(region.bottom, height), top + 1)
        pixels = self._backend_read(source, Box.from_bounds(left, top, right, bottom))
        if (left, top, right, bottom) == (region.x, region.y, region.right, region.bottom):
            return pixels
        out = np.empty((*region.shape, 3), np.uint8)  # numpy's own ways of doing this take longer than the decoder
        y, x = min(max(top - region.y, 0), region.h - 1), min(max(left - region.x, 0), region.w - 1)
        below, beyond = y + bottom - top, x + right - left
        out[y:below, x:beyond] = pixels
        out[y:below, :x], out[y:below, beyond:] = out[y:below, x : x + 1], out[y:below, beyond - 1 : beyond]
        out[:y], out[below:] = out[y], out[below - 1]
        return out

    def _backend_read(self, source: _Source, box: Box) -> Pixels:
        if self._closed:
            raise SlideError(f"{self.name} has been closed: open it again to read from it.")
        if time.monotonic() - self._checked_at > CHECK_SECONDS:
            self.check_unchanged()
        try:
            backend = self._own_backend()
            if source.factor > 1 and isinstance(backend, ReducingBackend):
                pixels = backend.read_reduced(source.level, source.factor, box)
            else:
                pixels = backend.read(source.level, box)
        except (WsisegError, MemoryError):
            raise
        except Exception as error:  # the readers' own libraries raise anything, from ValueError to zlib.error
            whole = Box(*(side * source.factor for side in (box.x, box.y, box.w, box.h)))
            raise unreadable(self._backend, source.level, whole, reason(error, self.path)) from error
        if pixels.shape != (*box.shape, 3) or pixels.dtype != np.uint8:
            raise SlideError(f"{self.name}: {self.backend_name} gave {pixels.dtype} {pixels.shape} for {box}.")
        return pixels

    def _own_backend(self) -> Backend:
        """The backend, opened again after a fork, because two processes must not share a file position."""
        if os.getpid() != self._process:
            with self._lock:
                if os.getpid() != self._process:
                    self.check_unchanged()
                    self._backend = copy.copy(self._backend)
                    self._process = os.getpid()
        return self._backend


def _stamp_of(path: str) -> Stamp:
    """Size and time of the last change of a file; nothing for a folder, a slide in memory, or one that is gone."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return () if stat.S_ISDIR(found.st_mode) else (found.st_size, found.st_mtime_ns)


def _whole(value: float) -> float:
    nearest = round(value)
    return float(nearest) if nearest >= 1 and abs(value - nearest) <= 1e-6 * nearest else value
