"""What a server allows."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one request and of all at once.

    ``timeout``: seconds after which a request that has not begun is given up; a client may ask for less.
    ``concurrency``: requests in the server, HTTP and gRPC together.
    """

    body_bytes: int = 8 * 2**20
    texts: int = 1024
    tokens: int = 65536
    concurrency: int = 512
    timeout: float = 30.0
    drain_timeout: float = 30.0
