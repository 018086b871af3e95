"""The JSON bodies of requests and answers. Their docstrings are descriptions in the OpenAPI document."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from ..errors import MalformedRequest

Text = Annotated[str, Meta(min_length=1)]
Pair = Annotated[list[Text], Meta(min_length=2, max_length=2)]


class TensorIn(Struct):
    """An input tensor: either ``data`` in row-major order, or raw bytes after the JSON, as many as
    ``parameters.binary_data_size``.
    """

    name: str
    shape: list[Annotated[int, Meta(ge=0, le=2**31)]]
    datatype: str
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class RequestedOutput(Struct):
    """An output to return; with ``parameters.binary_data`` true, as raw bytes after the JSON."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(Struct):
    """An inference request. ``parameters.timeout`` is the time allowed for the answer, in microseconds."""

    inputs: Annotated[list[TensorIn], Meta(min_length=1, max_length=16)]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[RequestedOutput] | None = None


class TensorOut(Struct, omit_defaults=True):
    """An output tensor; if it has no ``data``, its raw bytes follow the JSON."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class InferAnswer(Struct, omit_defaults=True):
    """The answer to an inference request."""

    model_name: str
    model_version: str
    outputs: list[TensorOut]
    id: str = ""


class Error(Struct):
    """An error message."""

    error: str


class RepositoryIndexRequest(Struct):
    """Which models to list; with ``ready`` only those that are ready."""

    ready: bool = False


class RepositoryRequest(Struct):
    """A request to load or unload a model. Loading takes no parameters, unloading ignores them."""

    parameters: dict[str, Any] = {}


class PredictRequest(Struct, forbid_unknown_fields=True):
    """Texts to answer. Give ``text``, or ``texts`` (strings, or pairs of strings), or ``question`` and
    ``context``, or ``prompt`` and ``choices``, as the model's task requires. ``model`` is optional if the
    server has only one.
    """

    model: str | None = None
    text: Text | None = None
    texts: Annotated[list[Text | Pair], Meta(min_length=1)] | None = None
    question: Text | None = None
    context: Text | None = None
    prompt: Text | None = None
    choices: Annotated[list[Text], Meta(min_length=1)] | None = None
    top_k: Annotated[int, Meta(ge=1, le=1000)] | None = None
    truncate: bool = False


class PredictAnswer(Struct):
    """The answers, in the order of the texts; what each holds depends on the task."""

    model: str
    task: str
    answers: list[Any]


class EmbeddingsRequest(Struct):
    """Texts to embed. Token ids are not accepted: clients compute them with another tokenizer.

    ``prompt_name``: one of the prompts of a model of a sentence-transformers folder; null for its default.
    """

    input: Text | Annotated[list[Text], Meta(min_length=1)]
    model: str | None = None
    encoding_format: str = "float"
    dimensions: int | None = None
    user: str | None = None
    prompt_name: str | None = None


class Embedding(Struct):
    """A vector: a list of numbers, or base64 of little-endian float32 values.

    Its Euclidean length is 1, except for a model of a sentence-transformers folder without Normalize.
    """

    index: int
    embedding: list[float] | str
    object: str = "embedding"


class Usage(Struct):
    """The number of tokens in the texts, special tokens not counted."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(Struct):
    """The vectors, in the order of the texts."""

    data: list[Embedding]
    model: str
    usage: Usage
    object: str = "list"


class OpenAiErrorBody(Struct):
    """An error, as OpenAI's API describes it."""

    message: str
    type: str
    code: str


class OpenAiError(Struct):
    """An error, as OpenAI's API wraps it."""

    error: OpenAiErrorBody


def decode(schema: type[Any], body: bytes | memoryview) -> Any:
    """Parse a body; MalformedRequest says where it is not the JSON that the schema requires."""
    try:
        return msgspec.json.decode(body, type=schema)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedRequest(f"the body is not the JSON that is expected here: {error}"[:400]) from None


encode = msgspec.json.encode
