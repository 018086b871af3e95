"""Reads the table that a checkpoint's .index is: keys and values in sorted order, LevelDB's SSTable.

A file is blocks, each followed by its type and checksum, then a footer that says where the index of blocks
lies. Nothing that the file says is believed before it is checked: lengths, order of keys, checksums.
"""

import struct
from collections.abc import Iterator

from ...protobuf import Malformed, varint
from .crc32c import crc32c, unmask
from .snappy import unpack

_FOOTER_BYTES = 48
_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_TRAILER = struct.Struct("<BI")  # type of compression, masked checksum of the block and that type
_STORED, _SNAPPY = 0, 1


def read_table(data: bytes) -> dict[bytes, bytes]:
    """All keys and values, in the order of the keys; Malformed if ``data`` is no such table."""
    footer = data[-_FOOTER_BYTES:]
    if len(footer) < _FOOTER_BYTES or not footer.endswith(_MAGIC):
        raise Malformed("it does not end as an index does")
    _, at = _handle(footer, 0)  # of the table's properties, which TensorFlow leaves empty
    handle, _ = _handle(footer, at)
    table: dict[bytes, bytes] = {}
    last: bytes | None = None
    unpacked = 0
    for _, value in _entries(_block(data, handle)):
        block = _block(data, _handle(value, 0)[0])
        unpacked += len(block)
        if unpacked > 64 * len(data) + 65536:
            raise Malformed("its blocks unpack to far more than an index holds")
        for key, entry in _entries(block):
            if last is not None and key <= last:
                raise Malformed("its keys are not in order")
            table[key], last = entry, key
    return table


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """(offset, size) of a block, and the place behind them."""
    offset, at = varint(data, at)
    size, at = varint(data, at)
    return (offset, size), at


def _block(data: bytes, handle: tuple[int, int]) -> bytes:
    offset, size = handle
    if offset + size + _TRAILER.size > len(data) - _FOOTER_BYTES:
        raise Malformed("a block lies beyond the end of the file")
    end = offset + size
    kind, checksum = _TRAILER.unpack_from(data, end)
    if crc32c(data[offset : end + 1]) != unmask(checksum):
        raise Malformed("the checksum of a block is wrong")
    if kind == _SNAPPY:
        return unpack(data[offset:end])
    if kind != _STORED:
        raise Malformed(f"a block is compressed in an unknown way ({kind})")
    return data[offset:end]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of a block. A key is stored as how much it shares with the one before, and the rest."""
    if len(block) < 4:
        raise Malformed("a block is cut short")
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 - 4 * restarts
    if end < 0:
        raise Malformed("a block is cut short")
    body, key, at = block[:end], b"", 0
    while at < end:
        shared, at = varint(body, at)
        rest, at = varint(body, at)
        length, at = varint(body, at)
        if shared > len(key) or rest > end - at or length > end - at - rest:
            raise Malformed("an entry is longer than its block")
        key = key[:shared] + body[at : at + rest]
        at += rest
        yield key, body[at : at + length]
        at += length
