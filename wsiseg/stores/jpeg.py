"""A Zarr codec that reads tiles stored as JPEG.

An inner chunk is one JPEG file, from SOI to EOI, that decodes to (size, size, 3) RGB: any JPEG decoder reads it. The
streams come from an encoder here or, untouched, from the slide's own file, and `wsiseg.stores.shard` writes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from simplejpeg import decode_jpeg, encode_jpeg
from zarr.abc.codec import ArrayBytesCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer
from zarr.registry import register_codec

QUALITY = 90


@dataclass(frozen=True)
class JpegCodec(ArrayBytesCodec):
    """Zarr v3 codec "wsiseg.jpeg", for chunks of (1, size, size, 3) uint8."""

    quality: int = QUALITY
    is_fixed_size = False

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> JpegCodec:
        """From the array's metadata."""
        return cls(**(data.get("configuration") or {}))

    def to_dict(self) -> dict[str, Any]:
        """For the array's metadata."""
        return {"name": "wsiseg.jpeg", "configuration": {"quality": self.quality}}

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        pixels = decode_jpeg(chunk_bytes.to_bytes())
        return chunk_spec.prototype.nd_buffer.from_ndarray_like(pixels.reshape(chunk_spec.shape))

    async def _encode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer | None:
        return chunk_spec.prototype.buffer.from_bytes(compress(chunk_array.as_numpy_array()[0], self.quality))

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Not known beforehand."""
        raise NotImplementedError


register_codec("wsiseg.jpeg", JpegCodec)


def compress(pixels: np.ndarray, quality: int = QUALITY) -> bytes:
    """(h, w, 3) uint8 RGB as a JPEG file."""
    return bytes(encode_jpeg(np.ascontiguousarray(pixels), quality, colorsubsampling="420"))
