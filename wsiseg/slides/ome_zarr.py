"""OME-Zarr images, version 0.4 (Zarr 2) and 0.5 (Zarr 3): a folder with a `multiscales` entry in its metadata.

https://ngff.openmicroscopy.org/0.4/ and /0.5/. A time series or a stack is refused, since nobody means its first
plane alone. Pixels of chunks that are missing have the array's fill value, as the format says; an interrupted copy can
therefore not be told from an empty area.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wsiseg.errors import SlideError
from wsiseg.geometry import Box
from wsiseg.slides.backend import FileBackend, Pixels, UnfitSlideError, reason
from wsiseg.slides.pixels import bit_depth, to_rgb
from wsiseg.slides.resolution import MICROMETRES, Resolution, stated
from wsiseg.slides.tiff.choice import choose
from wsiseg.slides.tiff.images import TiffImage, is_level, not_one_picture


class OmeZarrBackend(FileBackend):
    """See `Backend`. Axes tczyx, czyx, cyx, zyx or yx, in that order; one channel is grey, three are red, green, blue.

    `bioformats2raw` wraps images into numbered groups: the largest is taken, or the one that `series` names.
    """

    name = "ome_zarr"

    def __init__(self, path: str, series: int | None = None) -> None:
        super().__init__(path, series)
        try:
            self._read_header()
            sample = self._samples(len(self.levels) - 1, Box(0, 0, *self.levels[-1]).overlap(Box(0, 0, 4096, 4096)))
        except SlideError:
            raise
        except Exception as error:  # zarr and its codecs raise anything; so does metadata of the wrong shape
            raise SlideError(f"it cannot be read as OME-Zarr ({reason(error, path)})") from error
        self._bits = bit_depth(sample)
        to_rgb(sample[:1, :1], self._bits)

    def _read_header(self) -> None:
        import zarr

        root: Any = zarr.open_group(self.path, mode="r")
        image = _metadata(root)
        if "multiscales" not in image and ("bioformats2raw.layout" in image or "0" in root):
            root = self._choose(root)
            image = _metadata(root)
        elif self.asked_series not in (None, 0):
            raise UnfitSlideError("it holds one image, number 0")
        if "multiscales" not in image:
            what = "a plate" if "plate" in image else "a Zarr group"
            raise SlideError(f"it is {what} without `multiscales`, so it is not an OME-Zarr image")
        scales = image["multiscales"][0]
        axes = [a["name"] if isinstance(a, Mapping) else str(a) for a in scales.get("axes", "tczyx")]
        if axes[-2:] != ["y", "x"] or [a for a in "tczyx" if a in axes] != axes:
            raise SlideError(f"its axes are {', '.join(axes)}, which is not an image of (t), (c), (z), y, x")
        self._axes = axes
        self._arrays = [root[entry["path"]] for entry in scales["datasets"]]
        if any(array.ndim != len(axes) for array in self._arrays):
            raise SlideError(f"its arrays do not have the {len(axes)} axes that its metadata name")
        sizes = dict(zip(axes, self._arrays[0].shape, strict=True))
        channels = sizes.get("c", 1)
        if sizes.get("t", 1) > 1 or sizes.get("z", 1) > 1:
            said = [(sizes.get(axis, 1), name) for axis, name in (("z", "z planes"), ("t", "time points"))]
            raise UnfitSlideError(not_one_picture(said))
        if channels not in (1, 3):
            raise UnfitSlideError(f"it has {channels} channels, not 1 (grey) or 3 (RGB)")
        if channels == 1:
            self.notes += ("it has one channel, which is read as grey",)
        top, *others = self._arrays
        full = _size(top)
        if min(full) < 1:
            raise UnfitSlideError(f"it has {full[0]} × {full[1]} px, so there is nothing in it")
        self._arrays = [top]
        for array in others:
            w, h = _size(array)
            if is_level(full, (w, h)) and array.dtype == top.dtype:
                self._arrays.append(array)
            else:
                self.notes += (f"an array of {w} × {h} px has another shape than the slide and is not a level",)
        self.levels = tuple(_size(a) for a in self._arrays)
        self.mpp, self.mpp_doubt = _resolution(scales, axes)
        self.vendor = "ome-zarr"
        self.properties = {
            "ome.version": str(image.get("version", scales.get("version", ""))),
            "ome.axes": "".join(axes),
            "ome.name": str(scales.get("name", "")),
        }

    def _choose(self, root: Any) -> Any:
        """The group of the image that is the slide, of several in numbered groups."""
        names = sorted((name for name in root.group_keys() if name.isdigit()), key=int)
        images = []
        for name in names:
            scales = _metadata(root[name]).get("multiscales")
            if not scales:
                raise SlideError("some of its numbered groups are no images")
            top = root[name][scales[0]["datasets"][0]["path"]]
            images.append(TiffImage(_size(top), (), scales[0].get("name") or ""))
        self.series, self.notes = choose(images, self.asked_series)
        return root[names[self.series]]

    def read(self, level: int, box: Box) -> Pixels:
        return to_rgb(self._samples(level, box), self._bits)

    def _samples(self, level: int, box: Box) -> np.ndarray:
        """(h, w) or (h, w, c) as stored."""
        lead = tuple(slice(None) if axis == "c" else 0 for axis in self._axes[:-2])
        array = np.asarray(self._arrays[level][(*lead, *box.slices)])
        return np.moveaxis(array, 0, -1) if "c" in self._axes else array


def _size(array: Any) -> tuple[int, int]:
    return int(array.shape[-1]), int(array.shape[-2])


def _metadata(group: Any) -> Mapping[str, Any]:
    """The OME part of a group's attributes: under "ome" since 0.5, at the top before."""
    attributes = dict(group.attrs)
    return attributes.get("ome", attributes)


def _resolution(scales: Mapping[str, Any], axes: Sequence[str]) -> Resolution:
    """µm/px of level 0: the level's scale times the scale of the whole, in the unit of the axis."""
    factors = [1.0, 1.0]
    own = scales["datasets"][0].get("coordinateTransformations", [])
    for step in (*own, *scales.get("coordinateTransformations", [])):
        if step.get("type") == "scale":
            factors = [f * float(step["scale"][axes.index(axis)]) for f, axis in zip(factors, "xy", strict=True)]
    described = [a if isinstance(a, Mapping) else {} for a in scales.get("axes", ())]
    units = [next((a.get("unit") for a in described if a.get("name") == axis), None) for axis in "xy"]
    if None in units:
        return None, "its axes have no unit" if factors != [1.0, 1.0] else ""
    unknown = [u for u in units if u not in MICROMETRES]
    if unknown:
        return None, f"the unit {unknown[0]!r} of its axes is unknown"
    x, y = (f * MICROMETRES[str(u)] for f, u in zip(factors, units, strict=True))
    return stated(x, y)
