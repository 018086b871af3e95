"""Writes TensorFlow checkpoints for the tests, from the format's documents and not from our reader.

A table is blocks of (shared, rest, length, key, value), each behind it its type and masked CRC-32C; a footer.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

TYPES = {
    "float32": 1,
    "float64": 2,
    "int32": 3,
    "int64": 9,
    "bfloat16": 14,
    "float16": 19,
}
RESTART_EVERY = 16


def _remainder(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value


_REMAINDERS = [_remainder(value) for value in range(256)]


def checksum(data: bytes) -> int:
    """CRC-32C, byte by byte, masked as LevelDB does."""
    register = 0xFFFFFFFF
    for byte in data:
        register = register >> 8 ^ _REMAINDERS[(register ^ byte) & 0xFF]
    register ^= 0xFFFFFFFF
    return ((register >> 15 | register << 17) + 0xA282EAD8) & 0xFFFFFFFF


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def field(number: int, value: int | bytes) -> bytes:
    """A field of a protocol buffer; a number that is zero is left out."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value) if value else b""
    return varint(number << 3 | 2) + varint(len(value)) + value


def entry(
    dtype: int, shape: Sequence[int], shard: int, offset: int, size: int, masked: int, more: bytes = b""
) -> bytes:
    """A BundleEntryProto."""
    dimensions = b"".join(field(2, field(1, length)) for length in shape)
    numbers = field(1, dtype) + field(2, dimensions) + field(3, shard) + field(4, offset) + field(5, size)
    return numbers + b"\x35" + struct.pack("<I", masked) + more


def header(shards: int = 1, endianness: int = 0) -> bytes:
    """A BundleHeaderProto."""
    return field(1, shards) + field(2, endianness) + field(3, field(1, 1))


def block(entries: Sequence[tuple[bytes, bytes]]) -> bytes:
    out, restarts, last = bytearray(), [], b""
    for number, (key, value) in enumerate(entries):
        shared = 0
        if number % RESTART_EVERY == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    restarts = restarts or [0]
    return bytes(out) + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def table(
    entries: Sequence[tuple[bytes, bytes]],
    per_block: int = 20,
    compress: Callable[[bytes], bytes] | None = None,
) -> bytes:
    """A table of these entries, in their order."""
    out = bytearray()

    def add(content: bytes) -> bytes:
        packed = content if compress is None else compress(content)
        kind = bytes([compress is not None])
        handle = varint(len(out)) + varint(len(packed))
        out.extend(packed + kind + struct.pack("<I", checksum(packed + kind)))
        return handle

    parts = [entries[start : start + per_block] for start in range(0, len(entries), per_block)]
    handles = [(part[-1][0], add(block(part))) for part in parts]
    meta, index = add(block([])), add(block(handles))
    return bytes(out) + (meta + index).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def write_tensorflow(
    folder: Path,
    tensors: Mapping[str, np.ndarray],
    *,
    name: str = "model.ckpt-7",
    dtypes: Mapping[str, str] | None = None,
    shards: int = 1,
    **options: object,
) -> Path:
    """A checkpoint of tensors; its index. ``dtypes``: those whose arrays of uint16 are bfloat16."""
    folder.mkdir(parents=True, exist_ok=True)
    data = [bytearray() for _ in range(shards)]
    entries = [(b"", header(shards))]
    for number, (title, values) in enumerate(sorted(tensors.items(), key=lambda item: item[0].encode())):
        shard = number % shards
        raw = values.tobytes()
        dtype = TYPES[(dtypes or {}).get(title, values.dtype.name)]
        place = (shard, len(data[shard]), len(raw), checksum(raw))
        entries.append((title.encode(), entry(dtype, values.shape, *place)))
        data[shard] += raw
    for number, content in enumerate(data):
        (folder / f"{name}.data-{number:05d}-of-{shards:05d}").write_bytes(content)
    index = folder / f"{name}.index"
    index.write_bytes(table(entries, **options))  # type: ignore[arg-type]
    return index


def literals(content: bytes) -> bytes:
    """Snappy's format with nothing saved: the length, then the bytes as they are, 60 at a time."""
    parts = [content[start : start + 60] for start in range(0, len(content), 60)]
    return varint(len(content)) + b"".join(bytes([len(part) - 1 << 2]) + part for part in parts)
