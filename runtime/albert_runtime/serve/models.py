"""The models of a server, by name and version: where their artifacts lie, and what answers for them now."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

from ..artifact.artifact import Artifact
from ..artifact.manifest import Manifest
from ..errors import ArtifactError
from ..predictor import Predictor
from .errors import NotFound, Unavailable
from .limits import ServerLimits
from .model import Model

# The states of Triton's repository index.
LOADING, READY, UNAVAILABLE = "LOADING", "READY", "UNAVAILABLE"


@dataclass(slots=True)
class Entry:
    """One version of a model that the server was given, loaded or not.

    Attributes:
        name: The model's name.
        version: "1", "2", ...
        path: Where the artifact lies.
        options: Keyword arguments of Predictor.
        model: What answers requests now; None if it is not loaded.
        reason: Why the last load failed, or why the model is not loaded; "" if there is nothing to tell.
        replaced: The Predictors that answered before, as long as requests to them are in progress.
    """

    name: str
    version: str
    path: str
    options: dict[str, Any] = field(default_factory=dict)
    model: Model | None = None
    reason: str = ""
    replaced: WeakSet[Predictor] = field(default_factory=WeakSet)

    @property
    def state(self) -> str:
        """READY; LOADING before the first load has ended; or UNAVAILABLE, with a reason."""
        if self.model is not None:
            return READY
        return UNAVAILABLE if self.reason else LOADING

    def load(self, limits: ServerLimits, *, verify: bool) -> Model:
        """Load the artifact as it lies there now, and run it once; ``model`` is left as it is.

        Args:
            limits: Limits on each request to the model.
            verify: Compare the sha256 of every file with the manifest.

        Raises:
            ArtifactError: The artifact is damaged, or is one of another model.
            BackendError: No backend can run it with these options.
        """
        predictor = Predictor(self.path, verify=verify, **self.options)
        manifest = _require_manifest(self.path, predictor.manifest)
        if manifest.name != self.name:
            raise ArtifactError(
                f"{self.path} holds {manifest.name} now; export {self.name} there again, "
                "or start another server with it"
            )
        model = Model(self.name, self.version, predictor, manifest, limits, self.replaced)
        model.warm_up()
        return model


class Models:
    """All models of a server, by name and version. Only the event loop changes which ones answer.

    Iterating gives those that are loaded.

    Args:
        limits: Limits on each request to any of the models.
    """

    def __init__(self, limits: ServerLimits) -> None:
        self.limits = limits
        self._entries: dict[str, dict[str, Entry]] = {}

    def add(self, path: str, **options: Any) -> Entry:
        """Add an artifact, which is loaded later: only its manifest is read.

        The first one of a name becomes version 1, the second version 2, and so on.

        Args:
            path: The artifact: its folder, stem or one of its files.
            **options: Keyword arguments of Predictor.

        Raises:
            ArtifactError: The artifact is damaged, or has no manifest.
        """
        name = _require_manifest(path, Artifact.open(path).manifest).name
        versions = self._entries.setdefault(name, {})
        version = str(len(versions) + 1)
        versions[version] = Entry(name, version, path, options)
        return versions[version]

    @property
    def entries(self) -> list[Entry]:
        """All versions of all models, loaded or not."""
        return [entry for versions in self._entries.values() for entry in versions.values()]

    def __iter__(self) -> Iterator[Model]:
        return (entry.model for entry in self.entries if entry.model is not None)

    def versions(self, name: str) -> list[str]:
        """The versions of a model that are loaded, oldest first; empty if there is no such model."""
        return [model.version for model in self if model.name == name]

    def entries_of(self, name: str) -> list[Entry]:
        """All versions of a model, loaded or not; NotFound if there is no such model."""
        if name not in self._entries:
            raise NotFound(f"there is no model {name[:100]!r}; this server has {', '.join(self._entries)}")
        return list(self._entries[name].values())

    def find(self, name: str | None = None, version: str | None = None) -> Model:
        """Look a model up.

        Args:
            name: The model's name; None if the request names none, which is enough where only one is loaded.
            version: The version; None or "" for the latest.

        Raises:
            NotFound: There is no such model or version, it is not loaded, or the name is missing and there
                are several models.
            Unavailable: The model is still being loaded.
        """
        if name is None:
            if len(self._entries) > 1:
                raise NotFound(f"the request names no model; choose one of {', '.join(self._entries)}")
            name = next(iter(self._entries))
        entries = self.entries_of(name)
        if version:
            entries = [entry for entry in entries if entry.version == version]
            if not entries:
                known = ", ".join(self._entries[name])
                raise NotFound(f"model {name} has no version {version[:20]!r}; it has {known}")
        for entry in reversed(entries):
            if entry.model is not None:
                return entry.model
        if any(entry.state == LOADING for entry in entries):
            raise Unavailable(f"model {name} is loading")
        raise NotFound(f"model {name} is not loaded: {entries[-1].reason}")

    def find_all(self, name: str = "", version: str = "") -> list[Model]:
        """The models that are loaded: all, those of a name, or one version; errors as ``find``."""
        if not name:
            return list(self)
        latest = self.find(name, version)
        return [latest] if version else [model for model in self if model.name == name]

    def index(self, *, ready: bool = False) -> list[dict[str, str]]:
        """Triton's repository index: name, version, state and reason of every model, or of those ready."""
        return [
            {"name": entry.name, "version": entry.version, "state": entry.state, "reason": entry.reason}
            for entry in self.entries
            if not ready or entry.state == READY
        ]

    def replace(self, entry: Entry, model: Model | None, reason: str = "") -> None:
        """Let a model answer from now on, or none for the ``reason``.

        Requests in progress keep the model that they began with. Its memory is free once they have ended.
        """
        if entry.model is not None:
            entry.replaced.add(entry.model.predictor)
        entry.model, entry.reason = model, reason

    def close(self, *, cancel: bool = False) -> None:
        """Close all models, once every accepted request is answered; with ``cancel`` drop those queued."""
        replaced = [predictor for entry in self.entries for predictor in entry.replaced]
        for predictor in [*replaced, *(model.predictor for model in self)]:
            predictor.scheduler.close(cancel=cancel)


def _require_manifest(path: str, manifest: Manifest | None) -> Manifest:
    if manifest is None:
        raise ArtifactError(f"{path} has no manifest, which a server needs; export the model again")
    return manifest
