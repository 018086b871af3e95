"""Errors a caller of albert-runtime can expect. Each message is one line naming the thing and the remedy."""


class AlbertError(Exception):
    """Base of every error that albert-runtime raises on purpose."""


class ArtifactError(AlbertError):
    """A file of an artifact or checkpoint is missing, damaged, of another version or inconsistent."""


class InputError(AlbertError, ValueError):
    """A batch given to ``Predictor.run`` breaks a rule; the message names row, value and limit."""


class BackendError(AlbertError, RuntimeError):
    """A backend is unknown, unusable here or not installed; the message says how to get it."""


class UnsupportedError(BackendError):
    """A backend is there, but what the artifact asks of it this processor or device cannot do."""


class WrongSettingError(BackendError):
    """An environment variable asks for what is not there: an error, and no reason to take another backend."""


class Overloaded(AlbertError):
    """More requests wait than ``max_queue`` allows; try again later."""


class Closed(AlbertError):
    """The predictor was closed: it answers no more requests through its queue."""


class DeadlineExceeded(AlbertError, TimeoutError):
    """A request was not answered in its time."""
