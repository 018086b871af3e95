"""The errors that refuse or end a request, and how metrics, HTTP and gRPC report each of them."""

from dataclasses import dataclass

from ..errors import AlbertError, Closed, DeadlineExceeded, InputError, Overloaded

RETRY_AFTER_SECONDS = 1
_MAX_MESSAGE_CHARACTERS = 1000


class MalformedRequest(AlbertError):
    """The request breaks the protocol: its framing, its JSON or a tensor."""


class NotFound(AlbertError):
    """There is no such model, version or service."""


class BodyTooLarge(AlbertError):
    """The body is larger than this server accepts."""


class BodyTimeout(AlbertError):
    """The body did not arrive in time."""


class Unavailable(AlbertError):
    """The server is loading its models or shutting down."""


class NotAllowed(AlbertError):
    """The server was not started with the flag that allows this."""


class LoadFailed(AlbertError):
    """A model could not be loaded."""


class ClientDisconnected(AlbertError):
    """The client closed the connection before it was answered."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended: its name in metrics and logs, its HTTP status, and the name of its gRPC status."""

    name: str
    status: int
    grpc: str

    @property
    def retry(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in (429, 503)


OK = Outcome("ok", 200, "OK")
CANCELLED = Outcome("cancelled", 499, "CANCELLED")  # nginx's status for this; the client is no longer there
INTERNAL = Outcome("internal", 500, "INTERNAL")
_OUTCOMES: dict[type[Exception], Outcome] = {
    ClientDisconnected: CANCELLED,
    MalformedRequest: Outcome("malformed", 400, "INVALID_ARGUMENT"),
    InputError: Outcome("invalid", 422, "INVALID_ARGUMENT"),
    NotFound: Outcome("not_found", 404, "NOT_FOUND"),
    NotAllowed: Outcome("not_allowed", 403, "PERMISSION_DENIED"),
    LoadFailed: Outcome("load_failed", 500, "INTERNAL"),
    BodyTimeout: Outcome("too_slow", 408, "DEADLINE_EXCEEDED"),
    BodyTooLarge: Outcome("too_large", 413, "RESOURCE_EXHAUSTED"),
    Overloaded: Outcome("overloaded", 429, "RESOURCE_EXHAUSTED"),
    Unavailable: Outcome("unavailable", 503, "UNAVAILABLE"),
    Closed: Outcome("unavailable", 503, "UNAVAILABLE"),
    DeadlineExceeded: Outcome("expired", 503, "DEADLINE_EXCEEDED"),
}


def outcome_of(error: BaseException) -> Outcome:
    """The outcome that an error stands for; INTERNAL if it is none of this server's."""
    return next((outcome for kind, outcome in _OUTCOMES.items() if isinstance(error, kind)), INTERNAL)


def client_message(error: BaseException) -> str:
    """The message for the client, which learns nothing about the inside of the server."""
    if outcome_of(error) is INTERNAL:
        return "internal error; see the server's log"
    text = str(error)
    # It may quote what the client sent, up to a whole body; gRPC clients accept only short messages.
    return text if len(text) <= _MAX_MESSAGE_CHARACTERS else f"{text[:_MAX_MESSAGE_CHARACTERS]}..."
