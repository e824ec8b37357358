"""Tiles as JPEG inside Zarr: a codec to read them, and shards written from ready streams.

An inner chunk is one JPEG file, from SOI to EOI, that decodes to (size, size, 3) RGB: any JPEG decoder reads it. The
streams come from an encoder here or, untouched, from the slide's own file. The shard around them is that of Zarr's
`sharding_indexed` codec (ZEP 2): the chunks one after another, then an offset and a length for each of them as
little-endian uint64 (all ones where a chunk is missing), then the CRC-32C of these.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from simplejpeg import decode_jpeg, encode_jpeg
from zarr.abc.codec import ArrayBytesCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer
from zarr.registry import register_codec

QUALITY = 90
MISSING = np.uint64(2**64 - 1)


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


def write_shard(path: Path, streams: Sequence[bytes], places: int) -> None:
    """A shard file with these chunks; it appears whole or not at all.

    Args:
        path: the file
        streams: the chunks, in order
        places: chunks in a full shard; those beyond the streams are missing
    """
    index = np.full((places, 2), MISSING, "<u8")
    lengths = [len(s) for s in streams]
    index[: len(streams), 1] = lengths
    index[: len(streams), 0] = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    table = index.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.writelines(streams)
        file.write(table + google_crc32c.value(table).to_bytes(4, "little"))
    os.replace(partial, path)
