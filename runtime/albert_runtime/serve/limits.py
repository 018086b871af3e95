"""What a server allows."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one request and of all at once.

    ``answer_bytes``: of an answer's numbers, which a long row among many short ones multiplies.
    ``timeout``: seconds for a request's headers, its body and its answer, each; a client may ask for less.
    ``keep_alive``: seconds an idle HTTP connection is kept. More than the 60 for which proxies (nginx, AWS's
    load balancers) keep theirs: one closed at this end first may break the request that is just being sent.
    ``concurrency``: requests in the server, HTTP and gRPC together.
    """

    body_bytes: int = 8 * 2**20
    answer_bytes: int = 128 * 2**20
    texts: int = 1024
    tokens: int = 65536
    concurrency: int = 512
    timeout: float = 30.0
    keep_alive: float = 75.0
    drain_timeout: float = 30.0

    def seconds(self, asked: float | None) -> float:
        """For an answer, of which the client asked for so many (None = as many as there are)."""
        return self.timeout if asked is None else min(asked, self.timeout)
