"""The manifest of an artifact: what the model is and where each of its tensors lies in the weight file.

A manifest may come from anywhere, so reading one trusts nothing: size, types, ranges, file names and the
tensor table are checked, and whatever is wrong is an ArtifactError of one line that names the file and the
field.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import ArtifactError
from .config import AlbertConfig
from .json_fields import choice, clip, fail_field, get, load, sha256_hex, strings
from .proof import Proof
from .sentence import SentenceTexts
from .tasks import INPUTS, LABELLED, MODEL, TASKS, Head
from .tensor_table import TensorRecord, check_tensors, read_tensor

SCHEMA = 1
SUFFIX = ".manifest.json"
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
ROLES = ("program", "weights", "onnx", "tokenizer")

_BARE = Head()
# Fields that came later, or that few models have: a manifest without them is read as before.
_WRITTEN_IF_SET = ("calibration", "max_length", "sentence_texts", "proof")
_PLAIN_NAME = re.compile(r"[^/\\\x00-\x1f\x7f\ud800-\udfff]{1,255}")


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file of the artifact: its name in the manifest's folder, its size in bytes, its sha256 in hex."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything STEM.manifest.json says; the fields are those of the file.

    ``labels`` names the columns of the logits of a task whose labels are the user's own, else None. ``head``
    is null in the file of a bare model without further outputs; its task is always ``task``. ``precision`` is
    that of the program and the graph; each tensor has a dtype of its own. ``calibration`` says on what text
    the graph's int8 ranges were found; other precisions have none. ``max_length``: tokens of a row that texts
    are cut to on request, None = the model's positions. ``sentence_texts`` comes with a head that has
    ``sentence``. ``proof``: what Predictor(..., prove=True) compares.
    """

    name: str
    task: str
    precision: str
    created_by: Mapping[str, Any]
    weights_origin: Mapping[str, Any]
    config: AlbertConfig
    labels: tuple[str, ...] | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    files: Mapping[str, FileRecord]
    tensors: tuple[TensorRecord, ...]
    verification: Mapping[str, Any]
    head: Head = _BARE
    calibration: Mapping[str, Any] | None = None
    max_length: int | None = None
    sentence_texts: SentenceTexts | None = None
    proof: Proof | None = None

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Read and check a manifest file; ArtifactError names the file and what is wrong with it."""
        try:
            return cls.from_dict(load(path))
        except ArtifactError as error:
            raise ArtifactError(f"{path.name}: {clip(str(error), 400)}") from None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Manifest":
        """Check a decoded manifest; ArtifactError names the field that is wrong."""
        schema = get(data, "schema", int)
        if schema > SCHEMA:
            raise ArtifactError(
                f"written by a newer albert-runtime (schema {schema}); upgrade albert-runtime"
            )
        if schema < 1:
            fail_field("schema", f"is {schema}, not a number from 1 to {SCHEMA}")
        labels = data.get("labels")
        config, head = AlbertConfig.from_dict(get(data, "config", dict)), _head(data)
        manifest = cls(
            name=get(data, "name", str),
            task=choice(data, "task", TASKS),
            precision=choice(data, "precision", PRECISIONS),
            created_by=get(data, "created_by", dict),
            weights_origin=get(data, "weights_origin", dict),
            config=config,
            labels=None if labels is None else strings(data, "labels"),
            inputs=strings(data, "inputs"),
            outputs=strings(data, "outputs"),
            files=_files(get(data, "files", dict)),
            tensors=tuple(read_tensor(i, item) for i, item in enumerate(get(data, "tensors", list))),
            verification=get(data, "verification", dict),
            head=head,
            calibration=None if data.get("calibration") is None else get(data, "calibration", dict),
            max_length=None if data.get("max_length") is None else get(data, "max_length", int),
            sentence_texts=(
                None
                if data.get("sentence_texts") is None
                else SentenceTexts.from_dict(get(data, "sentence_texts", dict))
            ),
            proof=(
                None if data.get("proof") is None else Proof.from_dict(get(data, "proof", dict), config, head)
            ),
        )
        _check_head(manifest)
        longest, positions = manifest.max_length, manifest.config.max_position_embeddings
        if longest is not None and not 1 <= longest <= positions:
            fail_field("max_length", f"is {longest}, not a number from 1 to the {positions} positions")
        left_out = manifest.left_out
        if not isinstance(left_out, dict) or not all(isinstance(why, str) for why in left_out.values()):
            fail_field("verification.left_out", f"must be an object of texts, not {clip(left_out)}")
        if manifest.inputs != INPUTS:
            fail_field("inputs", f"is {list(manifest.inputs)!r}, not {list(INPUTS)!r}")
        expected = manifest.head.outputs(manifest.config)
        if manifest.outputs != expected:
            fail_field("outputs", f"is {list(manifest.outputs)!r}, not {list(expected)!r}")
        check_tensors(manifest.tensors, manifest.config, manifest.head, manifest.files["weights"].size)
        return manifest

    @property
    def left_out(self) -> Mapping[str, str]:
        """The backends that could not run this artifact where it was exported, and why."""
        reasons: Mapping[str, str] = self.verification.get("left_out", {})
        return reasons

    @property
    def embedding_size(self) -> int:
        """Numbers in a vector that ``embed`` gives by default: D of sentence_embedding, else H."""
        hidden_size, sentence = self.config.hidden_size, self.head.sentence
        return hidden_size if sentence is None else sentence.width(hidden_size)

    def to_dict(self) -> dict[str, Any]:
        """The manifest as JSON holds it."""
        values = {**asdict(self), "head": None if self.head == _BARE else self.head.to_dict()}
        first = {name: values.pop(name) for name in ("name", "task", "head")}
        for name in _WRITTEN_IF_SET:
            if values[name] is None:
                del values[name]
        return {"schema": SCHEMA, **first, **values}

    def write(self, path: Path) -> None:
        """Write the manifest as JSON (UTF-8)."""
        path.write_text(json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _files(data: Mapping[str, Any]) -> dict[str, FileRecord]:
    files = {}
    for role, entry in data.items():
        where = f"files.{clip(role, 40)}"
        if role not in ROLES:
            fail_field(where, f"is unknown; known are {', '.join(ROLES)}")
        if not isinstance(entry, dict):
            fail_field(where, f"must be an object, not {clip(entry)}")
        record = FileRecord(
            get(entry, "name", str, where),
            get(entry, "size", int, where),
            sha256_hex(entry, "sha256", where),
        )
        if not _PLAIN_NAME.fullmatch(record.name) or record.name in (".", ".."):
            fail_field(
                f"{where}.name",
                f"is {clip(record.name)}; it must be a plain file name in the manifest's folder",
            )
        if record.size < 0:
            fail_field(f"{where}.size", f"is {record.size}, less than 0")
        files[role] = record
    if "weights" not in files:
        fail_field("files.weights", "is missing")
    return files


def _head(data: Mapping[str, Any]) -> Head:
    """The head; a bare model has null, and manifests written before there were heads have no such field."""
    value = data.get("head")
    if value is None:
        return _BARE
    if not isinstance(value, dict):
        fail_field("head", f"must be an object or null, not {clip(value)}")
    try:
        return Head.from_dict(value)
    except ArtifactError as error:
        fail_field("head", f"is wrong: {error}")


def _check_head(manifest: Manifest) -> None:
    head, config, labels = manifest.head, manifest.config, manifest.labels
    if head.task != manifest.task:
        fail_field("head", f"is that of {head.task}, the task is {manifest.task}")
    if head.task != MODEL and config.add_pooling_layer != head.reads_pooled:
        fail_field("config", f"must have add_pooling_layer {str(head.reads_pooled).lower()} for {head.task}")
    if (manifest.sentence_texts is None) != (head.sentence is None):
        fail_field("sentence_texts", "must be there if the head has sentence, and only then")
    if head.task not in LABELLED:
        if labels is not None:
            fail_field("labels", f"must be null for {head.task}")
    elif labels is None or len(labels) != head.num_labels:
        count = "null" if labels is None else f"{len(labels)} names"
        fail_field("labels", f"is {count}, the head has {head.num_labels} columns")
    elif any("\ud800" <= letter <= "\udfff" for letter in "".join(labels)):
        fail_field("labels", "holds a lone surrogate, which is no text")
