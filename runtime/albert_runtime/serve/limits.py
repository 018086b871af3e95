"""The limits that an operator sets when starting a server."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Limits on each request and on the server as a whole.

    Attributes:
        max_body_bytes: Largest request body, before and after decompression.
        max_answer_bytes: Most bytes of output arrays for one request. Outputs are padded to the longest row,
            so one long row among many short ones can turn a small request into a huge answer.
        max_texts: Most texts in one request.
        max_tokens: Most tokens in one request, all its texts together.
        max_concurrency: Most requests in progress at once, over HTTP and gRPC together.
        timeout: Seconds allowed for a request's headers, for its body and for its answer, each. A client may
            ask for less.
        keep_alive: Seconds for which an idle HTTP connection stays open. Should exceed the 60 seconds after
            which common proxies (nginx, the load balancers of AWS) close theirs: if this end closes first, a
            request that the proxy is just sending fails.
        drain_timeout: Seconds in which accepted requests may finish after SIGTERM.
        truncate: Cut texts that are too long for a model, where a request does not say.
    """

    max_body_bytes: int = 8 * 2**20
    max_answer_bytes: int = 128 * 2**20
    max_texts: int = 1024
    max_tokens: int = 65536
    max_concurrency: int = 512
    timeout: float = 30.0
    keep_alive: float = 75.0
    drain_timeout: float = 30.0
    truncate: bool = False

    @property
    def max_characters(self) -> int:
        """Most characters of texts that are tokenized whole: far more than ``max_tokens`` tokens need.

        What has more has hardly any tokens for its size: spaces, marks, words unknown as a whole.
        """
        return 16 * self.max_tokens

    def answer_timeout(self, requested: float | None) -> float:
        """Seconds allowed for an answer: what the client asked for, but never over ``timeout``."""
        return self.timeout if requested is None else min(requested, self.timeout)
