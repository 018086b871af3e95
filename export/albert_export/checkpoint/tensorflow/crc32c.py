"""CRC-32C, the checksum of TensorFlow's checkpoints, over numpy arrays: gigabytes in seconds.

A remainder is linear in the bytes: rem(a ^ b) = rem(a) ^ rem(b). So long data is cut into equal lanes, whose
remainders are computed side by side, one column of bytes after another, and then put together: a lane that is
followed by n bytes counts with its remainder shifted over n zero bytes.
"""

import numpy as np

_POLYNOMIAL = 0x82F63B78
_ONES = 0xFFFFFFFF
_LANES = 1 << 12  # a power of two: lanes are put together in pairs
_SHORT = 1 << 14  # below this many bytes lanes cost more than they bring
_MASK_DELTA = 0xA282EAD8

Table = list[int]


def _byte_table() -> Table:
    table = list(range(256))
    for _ in range(8):
        table = [value >> 1 ^ (_POLYNOMIAL if value & 1 else 0) for value in table]
    return table


_BYTES = _byte_table()
_BYTES_ARRAY = np.array(_BYTES, np.uint32)


def crc32c(data: bytes | memoryview) -> int:
    """The checksum of ``data`` (RFC 3720)."""
    lane = len(data) // _LANES if len(data) >= _SHORT else 0
    head = lane * _LANES
    remainder = _shifted(_ONES, head) ^ _remainder_of_lanes(data[:head], lane) if lane else _ONES
    for byte in data[head:]:
        remainder = remainder >> 8 ^ _BYTES[(remainder ^ byte) & 0xFF]
    return remainder ^ _ONES


def unmask(masked: int) -> int:
    """The checksum that a file stores masked, as LevelDB and TensorFlow do."""
    rotated = (masked - _MASK_DELTA) & _ONES
    return (rotated >> 17 | rotated << 15) & _ONES


def _remainder_of_lanes(data: bytes | memoryview, lane: int) -> int:
    """The remainder of ``data``, _LANES lanes of ``lane`` bytes, from a register of zeros."""
    columns = np.frombuffer(data, np.uint8).reshape(_LANES, lane)
    remainders = np.zeros(_LANES, np.uint32)
    for start in range(0, lane, 256):
        # Columns one after another in memory, some at a time.
        for column in np.ascontiguousarray(columns[:, start : start + 256].T):
            remainders = remainders >> 8 ^ _BYTES_ARRAY[(remainders ^ column) & 0xFF]
    length = lane
    while remainders.size > 1:
        remainders = _shift_all(remainders[::2], _powers(length)) ^ remainders[1::2]
        length *= 2
    return int(remainders[0])


def _shifted(remainder: int, length: int) -> int:
    """A remainder after ``length`` zero bytes."""
    return int(_shift_all(np.array([remainder], np.uint32), _powers(length))[0])


def _shift_all(remainders: np.ndarray, matrix: Table) -> np.ndarray:
    """Every remainder times a matrix of 32 columns over the field of two elements."""
    result = np.zeros_like(remainders)
    for bit, column in enumerate(matrix):
        result ^= (remainders >> np.uint32(bit) & np.uint32(1)) * np.uint32(column)
    return result


def _powers(length: int) -> Table:
    """The matrix that shifts a remainder over ``length`` zero bytes."""
    result = [1 << bit for bit in range(32)]
    step = [value >> 8 ^ _BYTES[value & 0xFF] for value in result]
    while length:
        if length & 1:
            result = _product(step, result)
        step = _product(step, step)
        length >>= 1
    return result


def _product(one: Table, other: Table) -> Table:
    shifted = _shift_all(np.array(other, np.uint32), one)
    return [int(column) for column in shifted]
