"""Read and write shards of Zarr arrays as files of encoded chunks, and a codec for chunks that are JPEG files.

Zarr takes about a millisecond for each chunk, empty or not; this takes as long as the codec and the disk do. The
layout is that of the `sharding_indexed` codec (ZEP 2): the chunks one after another, then an offset and a length for
each place as little-endian uint64 (all ones where a chunk is missing), then the CRC-32C of these.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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

from wsiseg.errors import StoreError

DAMAGED = "{} is damaged: make the output again with --overwrite."
MISSING = np.uint64(2**64 - 1)
QUALITY = 90


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what Zarr and its codecs say of damaged chunks into a StoreError that names the store."""
    try:
        yield
    except StoreError:
        raise
    except (OSError, ValueError, TypeError, RuntimeError, LookupError) as error:
        raise StoreError(DAMAGED.format(path)) from error


def write_shard(path: Path, chunks: Sequence[bytes | None], places: int) -> None:
    """A shard file with these chunks; it appears whole or not at all.

    Args:
        path: the file
        chunks: the encoded chunks in order, None where one is missing
        places: chunks in a full shard; those beyond the given ones are missing
    """
    index = np.full((places, 2), MISSING, "<u8")
    end = 0
    for place, chunk in enumerate(chunks):
        if chunk is not None:
            index[place] = end, len(chunk)
            end += len(chunk)
    table = index.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.writelines(chunk for chunk in chunks if chunk is not None)
        file.write(table + google_crc32c.value(table).to_bytes(4, "little"))
    os.replace(partial, path)


def read_shard(path: Path, places: int) -> list[bytes | None]:
    """The encoded chunks of a shard file, None where one is missing; without a file all are missing.

    Raises:
        StoreError: the file is damaged
    """
    if not path.exists():
        return [None] * places
    data = path.read_bytes()
    table, check = data[-16 * places - 4 : -4], data[-4:]
    if len(table) < 16 * places or google_crc32c.value(table).to_bytes(4, "little") != check:
        raise StoreError(DAMAGED.format(path))
    index = np.frombuffer(table, "<u8").reshape(places, 2)
    return [None if at == MISSING else data[int(at) : int(at) + int(count)] for at, count in index]


@dataclass(frozen=True)
class JpegCodec(ArrayBytesCodec):
    """Zarr v3 codec "wsiseg.jpeg", for chunks of (1, size, size, 3) uint8 RGB.

    A chunk is one JPEG file that any decoder reads. It comes from an encoder here or, untouched, from the slide.
    """

    quality: int = QUALITY
    is_fixed_size = False

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> JpegCodec:
        return cls(**(data.get("configuration") or {}))

    def to_dict(self) -> dict[str, Any]:
        return {"name": "wsiseg.jpeg", "configuration": {"quality": self.quality}}

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        pixels = decode_jpeg(chunk_bytes.to_bytes())
        return chunk_spec.prototype.nd_buffer.from_ndarray_like(pixels.reshape(chunk_spec.shape))

    async def _encode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer | None:
        return chunk_spec.prototype.buffer.from_bytes(compress(chunk_array.as_numpy_array()[0], self.quality))

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        raise NotImplementedError  # not known beforehand


register_codec("wsiseg.jpeg", JpegCodec)


def compress(pixels: np.ndarray, quality: int = QUALITY) -> bytes:
    """(h, w, 3) uint8 RGB as a JPEG file."""
    return bytes(encode_jpeg(np.ascontiguousarray(pixels), quality, colorsubsampling="420"))
