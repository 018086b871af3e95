"""Folders of sentence-transformers: modules.json, the modules behind the encoder, prompts.

What is read here decides what ``SentenceTransformer.encode`` gives. A module, a field or a value whose effect
the artifact could not have is refused. No class is imported by its name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from albert_runtime.artifact.sentence import (
    ACTIVATIONS,
    DENSE,
    NORMALIZE,
    POOLINGS,
    SentenceHead,
    SentenceTexts,
    Step,
)
from albert_runtime.errors import ArtifactError

from ..errors import ExportError
from .sentence_json import flag, number, read_list, read_object
from .stored_tensor import shown

MODULES_NAME = "modules.json"
_SETTINGS_NAME = "config_sentence_transformers.json"
_PACKAGE = "sentence_transformers."
_MODEL_TYPE, _CLASSIFIER = "SentenceTransformer", "CrossEncoder"
# Files of one and the same module under the names that releases gave it, in the package's own order.
_TRANSFORMER_NAMES = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_WEIGHT_NAMES = ("model.safetensors", "pytorch_model.bin")
# The older form of a pooling: a flag for each, joined in this order.
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_EMBEDDING = "sentence_embedding"
_TEXT_MODALITY = {"method": "forward", "method_output_name": "last_hidden_state"}
# How the encoder is loaded, which changes no answer.
_LOADING = {"torch_dtype", "dtype", "attn_implementation", "add_pooling_layer"}
# Prompts that every model has, empty unless its folder says otherwise.
_DEFAULT_PROMPTS = {"query": "", "document": ""}


@dataclass(frozen=True)
class SentenceFolder:
    """What a folder says beside its encoder.

    Attributes:
        transformer: The folder of the encoder: config, weights, tokenizer.
        head: Pooling and further steps.
        files: The weight file of each dense step, in order.
        max_seq_length: The limit that the folder sets itself; None for that of its tokenizer.
        lowercase: Whether texts are lower-cased before anything else.
        texts: Prompts.
    """

    transformer: Path
    head: SentenceHead
    files: tuple[Path, ...]
    max_seq_length: int | None
    lowercase: bool
    texts: SentenceTexts


def read_sentence_folder(folder: Path) -> SentenceFolder | None:
    """What a folder's modules.json says; None where there is none, or it is that of a cross-encoder.

    Raises AlbertError, one line that names the file and what cannot be exported.
    """
    path = folder / MODULES_NAME
    if not path.is_file():
        return None
    settings = read_object(folder / _SETTINGS_NAME)
    model_type = settings.get("model_type", _MODEL_TYPE)
    if model_type == _CLASSIFIER:
        return None  # its encoder and classifier are one checkpoint
    if model_type != _MODEL_TYPE:
        raise ExportError(
            f"{folder / _SETTINGS_NAME}: model_type is {shown(str(model_type))}; only {_MODEL_TYPE} and "
            f"{_CLASSIFIER} folders can be exported"
        )
    modules = [_module(folder, path, entry) for entry in read_list(path)]
    if [kind for kind, _ in modules[:2]] != ["Transformer", "Pooling"]:
        kinds = ", ".join(kind for kind, _ in modules) or "none"
        raise ExportError(f"{path}: its modules must begin with Transformer and Pooling, not be {kinds}")
    (_, transformer), (_, pooling), *further = modules
    limit, lowercase = _transformer(transformer)
    poolings, include_prompt = _pooling(pooling)
    steps, files = [], []
    for kind, place in further:
        if kind == "Dense":
            steps.append(_dense(place))
            files.append(_weights(place))
        elif kind == "Normalize":
            _on_embedding(place / "config.json", read_object(place / "config.json"))
            steps.append(Step(NORMALIZE))
        elif kind != "Dropout":  # which does nothing once trained
            raise ExportError(
                f"{path}: module {kind} cannot be exported; known behind the encoder are Pooling once, then "
                "Dense, Normalize and Dropout"
            )
    try:
        head = SentenceHead(poolings, tuple(steps))
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from None
    texts = _texts(folder / _SETTINGS_NAME, settings, include_prompt=include_prompt)
    return SentenceFolder(transformer, head, tuple(files), limit, lowercase, texts)


def cross_encoder_said(folder: Path) -> Mapping[str, object]:
    """What a cross-encoder's folder says beside its config.json, in the older form: within the config itself.

    Raises AlbertError for what would change its scores and cannot be exported.
    """
    path = folder / _SETTINGS_NAME
    settings = read_object(path)
    if settings.get("model_type") != _CLASSIFIER:
        return {}
    if settings.get("default_prompt_name") is not None:
        raise ExportError(f"{path}: the default prompt of a {_CLASSIFIER} cannot be exported; set it to null")
    modules = folder / MODULES_NAME
    if modules.is_file():
        kinds = [kind for kind, _ in (_module(folder, modules, entry) for entry in read_list(modules))]
        if kinds != ["Transformer"]:
            raise ExportError(
                f"{modules}: the modules of a {_CLASSIFIER} must be one Transformer, not {', '.join(kinds)}"
            )
    name = settings.get("activation_fn")
    return {} if name is None else {"sentence_transformers": {"activation_fn": name}}


def _module(folder: Path, path: Path, entry: object) -> tuple[str, Path]:
    """The class name of a module of the package and its folder, which lies within ``folder``."""
    if not isinstance(entry, dict):
        raise ArtifactError(f"{path} must hold a list of objects")
    kind, place = entry.get("type"), entry.get("path", "")
    if not isinstance(kind, str) or not isinstance(place, str):
        raise ArtifactError(f"{path}: type and path of a module must be texts")
    if not kind.startswith(_PACKAGE):
        raise ExportError(
            f"{path}: module {shown(kind)} is none of sentence-transformers' own; it cannot be exported"
        )
    parts = PurePosixPath(place)
    if parts.is_absolute() or ".." in parts.parts or "\\" in place or not place.isprintable():
        raise ArtifactError(f"{path}: path {shown(place)} of a module leaves the folder")
    if entry.get("kwargs"):
        raise ExportError(f"{path}: module {shown(kind)} has kwargs, which cannot be exported")
    return kind.rsplit(".", 1)[-1], folder / parts


def _transformer(place: Path) -> tuple[int | None, bool]:
    """max_seq_length and do_lower_case of the encoder's module."""
    path = next((place / name for name in _TRANSFORMER_NAMES if (place / name).is_file()), None)
    if path is None:
        return None, False
    values = read_object(path)
    if values.get("transformer_task", "feature-extraction") != "feature-extraction":
        raise ExportError(
            f"{path}: transformer_task is {shown(str(values['transformer_task']))}; only feature-extraction "
            "can be exported"
        )
    modality = values.get("modality_config")
    if modality is not None and (
        not isinstance(modality, dict)
        or modality.get("text") != _TEXT_MODALITY
        or values.get("module_output_name", "token_embeddings") != "token_embeddings"
    ):
        raise ExportError(f"{path}: only texts' last_hidden_state as token_embeddings can be exported")
    limit = number(path, values, "max_seq_length")
    for name in ("tokenizer_args", "processor_kwargs"):
        arguments = _arguments(path, values, name, {"model_max_length"})
        limit = number(path, arguments, "model_max_length") or limit
    for name in ("model_args", "model_kwargs"):
        _arguments(path, values, name, _LOADING)
    for name in ("config_args", "config_kwargs", "processing_kwargs"):
        _arguments(path, values, name, set())
    for name in ("tokenizer_name_or_path", "query_length", "document_length", "query_expansion"):
        if values.get(name) is not None:
            raise ExportError(f"{path}: {name} cannot be exported; only null can")
    return limit, flag(path, values, "do_lower_case", default=False)


def _arguments(path: Path, values: Mapping[str, Any], name: str, known: set[str]) -> Mapping[str, Any]:
    """An object of arguments; ExportError for one that would change the answers."""
    arguments = values.get(name) or {}
    if not isinstance(arguments, dict):
        raise ArtifactError(f"{path}: {name} is no object")
    for key in arguments:
        if key not in known and key != "trust_remote_code":  # which is never followed
            raise ExportError(
                f"{path}: {name} sets {shown(key)}, which cannot be exported; write it into the "
                "encoder's own files"
            )
    return arguments


def _pooling(place: Path) -> tuple[tuple[str, ...], bool]:
    """The poolings, and whether the tokens of a prompt are among those pooled."""
    path = place / "config.json"
    values = read_object(path, needed=True)
    said = values.get("pooling_mode")
    if said is None:
        kinds = [kind for name, kind in _POOLING_FLAGS.items() if flag(path, values, name, default=False)]
        unknown = [
            name
            for name, value in values.items()
            if name.startswith("pooling_mode_") and name not in _POOLING_FLAGS and value
        ]
        if unknown:
            raise ExportError(f"{path}: {shown(unknown[0])} is unknown and cannot be exported")
        kinds = kinds or ["mean"]
    else:
        kinds = said if isinstance(said, list) else [said]
        for kind in kinds:
            if kind not in POOLINGS:
                raise ExportError(
                    f"{path}: pooling_mode {shown(str(kind))} is unknown; known are {', '.join(POOLINGS)}"
                )
    return tuple(kinds), flag(path, values, "include_prompt", default=True)


def _dense(place: Path) -> Step:
    path = place / "config.json"
    values = read_object(path, needed=True)
    _on_embedding(path, values)
    if flag(path, values, "use_residual", default=False):
        raise ExportError(f"{path}: a Dense with use_residual cannot be exported")
    name = values.get("activation_function", "torch.nn.modules.activation.Tanh")
    package, _, activation = str(name).rpartition(".")
    if not f"{package}.".startswith("torch.nn.") or activation not in ACTIVATIONS:
        raise ExportError(
            f"{path}: activation_function {shown(str(name))} cannot be exported; known are torch.nn's "
            f"{', '.join(ACTIVATIONS)}"
        )
    sizes = [number(path, values, field) for field in ("in_features", "out_features")]
    if None in sizes:
        raise ArtifactError(f"{path}: in_features and out_features are missing")
    bias = flag(path, values, "bias", default=True)
    return Step(DENSE, sizes[0] or 0, sizes[1] or 0, bias, activation)


def _weights(place: Path) -> Path:
    for name in _WEIGHT_NAMES:
        if (place / name).is_file():
            return place / name
    raise ExportError(f"{place} holds none of {', '.join(_WEIGHT_NAMES)}; fetch the folder again")


def _on_embedding(path: Path, values: Mapping[str, Any]) -> None:
    """Refuse a module that works on anything but the pooled vector."""
    for name in ("module_input_name", "module_output_name"):
        if values.get(name) not in (None, _EMBEDDING):
            raise ExportError(
                f"{path}: {name} is {shown(str(values[name]))}; only {_EMBEDDING} can be exported"
            )


def _texts(path: Path, settings: Mapping[str, Any], *, include_prompt: bool) -> SentenceTexts:
    """The prompts by name, and the name of the default one."""
    said = settings.get("prompts") or {}
    if not isinstance(said, dict) or not all(isinstance(text, str | None) for text in said.values()):
        raise ArtifactError(f"{path}: prompts is not an object of names and texts")
    prompts = {**_DEFAULT_PROMPTS, **{name: text or "" for name, text in said.items()}}
    default = settings.get("default_prompt_name")
    if default is not None and (not isinstance(default, str) or default not in prompts):
        raise ExportError(
            f"{path}: default_prompt_name is {shown(str(default))}, none of the prompts "
            f"{', '.join(map(shown, prompts))}"
        )
    try:
        return SentenceTexts(prompts, default, include_prompt)
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from None
