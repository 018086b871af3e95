"""What a server allows."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one request and of all at once.

    ``answer_bytes``: of an answer's numbers, which a long row among many short ones multiplies.
    ``timeout``: seconds for a request's headers, its body and its answer, each; a client may ask for less.
    ``concurrency``: requests in the server, HTTP and gRPC together.
    """

    body_bytes: int = 8 * 2**20
    answer_bytes: int = 128 * 2**20
    texts: int = 1024
    tokens: int = 65536
    concurrency: int = 512
    timeout: float = 30.0
    drain_timeout: float = 30.0
