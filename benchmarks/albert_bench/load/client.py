"""A light client of the Open Inference Protocol, over one kept-alive connection.

It shares the machine with the server under test, so it asks for one output as bytes and decodes nothing.
"""

import asyncio
import contextlib
import json
import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_LENGTH = b"inference-header-content-length"


@dataclass(frozen=True, slots=True)
class Reply:
    """The status, id and body of an answer."""

    status: int
    id: str
    body: bytes


def request_bytes(path: str, ids: NDArray[np.int64], output: str, number: str) -> bytes:
    """A whole HTTP request with one sequence of token ids, asking for one output as bytes."""
    header = {
        "id": number,
        "inputs": [
            {
                "name": "input_ids",
                "shape": [1, len(ids)],
                "datatype": "INT64",
                "parameters": {"binary_data_size": 8 * len(ids)},
            },
        ],
        "outputs": [{"name": output, "parameters": {"binary_data": True}}],
    }
    text = json.dumps(header).encode()
    data = ids.astype("<i8").tobytes()
    lines = (
        f"POST {path} HTTP/1.1\r\nhost: load\r\ncontent-length: {len(text) + len(data)}\r\n"
        f"inference-header-content-length: {len(text)}\r\n\r\n"
    )
    return lines.encode() + text + data


@dataclass(slots=True)
class Connection:
    """A connection, opened on first use and again after the server has closed it."""

    host: str
    port: int
    _reader: asyncio.StreamReader | None = field(default=None, repr=False)
    _writer: asyncio.StreamWriter | None = field(default=None, repr=False)

    async def ask(self, request: bytes) -> Reply:
        """Send a request and read its answer; OSError or IncompleteReadError if the connection breaks."""
        # Servers close idle connections.
        if self._reader is None or self._writer is None or self._writer.is_closing() or self._reader.at_eof():
            await self.close()
            self._reader, self._writer = await asyncio.open_connection(self.host, self.port)
        assert self._reader is not None
        try:
            self._writer.write(request)
            head = await self._reader.readuntil(b"\r\n\r\n")
            lines = head.split(b"\r\n")
            headers = dict(line.lower().split(b": ", 1) for line in lines[1:] if b": " in line)
            body = await self._reader.readexactly(int(headers.get(b"content-length", 0)))
        except BaseException:
            await self.close()
            raise
        if headers.get(b"connection") == b"close":
            await self.close()
        found = json.loads(body[: int(headers.get(_LENGTH, len(body)))] or b"{}")
        return Reply(int(lines[0].split()[1]), str(found.get("id", "")), body)

    async def close(self) -> None:
        """Close the connection."""
        writer, self._reader, self._writer = self._writer, None, None
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def floats(reply: Reply, count: int) -> tuple[float, ...]:
    """The last ``count`` float32 of an answer."""
    return struct.unpack(f"<{count}f", reply.body[-4 * count :])
