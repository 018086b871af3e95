"""What a request can be refused with, and how each of the protocols says it."""

from dataclasses import dataclass

from ..errors import AlbertError, Closed, DeadlineExceeded, InputError, Overloaded

RETRY_SECONDS = 1
_LONGEST = 1000  # characters of a message


class Malformed(AlbertError):
    """The request is not what the protocol asks for: its framing, JSON or tensors."""


class NotFound(AlbertError):
    """There is no such model, version, service or page."""


class TooLarge(AlbertError):
    """The body is larger than this server takes."""


class TooSlow(AlbertError):
    """The body did not come in time."""


class Unavailable(AlbertError):
    """The server warms up or is going down."""


class Gone(AlbertError):
    """The client closed the connection."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """An end of a request: its name in the metrics, the HTTP status and the name of the gRPC status."""

    name: str
    status: int
    grpc: str

    @property
    def retry(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in (429, 503)


OK = Outcome("ok", 200, "OK")
CANCELLED = Outcome("cancelled", 499, "CANCELLED")  # the client went; the status is nginx's, nobody reads it
INTERNAL = Outcome("internal", 500, "INTERNAL")
_OUTCOMES: dict[type[Exception], Outcome] = {
    Gone: CANCELLED,
    Malformed: Outcome("malformed", 400, "INVALID_ARGUMENT"),
    InputError: Outcome("invalid", 422, "INVALID_ARGUMENT"),
    NotFound: Outcome("not_found", 404, "NOT_FOUND"),
    TooSlow: Outcome("too_slow", 408, "DEADLINE_EXCEEDED"),
    TooLarge: Outcome("too_large", 413, "RESOURCE_EXHAUSTED"),
    Overloaded: Outcome("overloaded", 429, "RESOURCE_EXHAUSTED"),
    Unavailable: Outcome("unavailable", 503, "UNAVAILABLE"),
    Closed: Outcome("unavailable", 503, "UNAVAILABLE"),
    DeadlineExceeded: Outcome("expired", 503, "DEADLINE_EXCEEDED"),
}


def outcome_of(error: BaseException) -> Outcome:
    """How an error is told."""
    return next((outcome for kind, outcome in _OUTCOMES.items() if isinstance(error, kind)), INTERNAL)


def message_of(error: BaseException) -> str:
    """What the client reads: of an error that is not its own, nothing of what is inside."""
    if outcome_of(error) is INTERNAL:
        return "internal error; the server's log has more"
    text = str(error)
    # It may name what the client sent, which may be as long as a body; gRPC's clients take little.
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
