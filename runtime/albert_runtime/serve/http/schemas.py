"""The JSON bodies of requests and answers. Their docstrings are descriptions in the OpenAPI document.

In a request null means that a field is left out.
"""

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
    parameters: dict[str, Any] | None = None
    data: list[Any] | None = None


class RequestedOutput(Struct):
    """An output to return; with ``parameters.binary_data`` true, as raw bytes after the JSON."""

    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(Struct):
    """An inference request. ``parameters.timeout`` is the time allowed for the answer, in microseconds;
    ``parameters.truncate`` true cuts rows that are too long for the model.
    """

    inputs: Annotated[list[TensorIn], Meta(min_length=1, max_length=16)]
    id: str | None = None
    parameters: dict[str, Any] | None = None
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

    ready: bool | None = None


class RepositoryRequest(Struct):
    """A request to load or unload a model. Loading takes no parameters, unloading ignores them."""

    parameters: dict[str, Any] | None = None


class PredictRequest(Struct, forbid_unknown_fields=True):
    """Texts to answer. Give ``text``, or ``texts`` (strings, or pairs of strings), or ``question`` and
    ``context``, or ``prompt`` and ``choices``, as the model's task requires. ``model`` is optional if the
    server has only one. ``truncate`` cuts texts that are too long; null is the server's default. The other
    fields are options of some tasks, those of the Predictor's method for the task.
    """

    model: str | None = None
    text: Text | None = None
    texts: Annotated[list[Text | Pair], Meta(min_length=1)] | None = None
    question: Text | None = None
    context: Text | None = None
    prompt: Text | None = None
    choices: Annotated[list[Text], Meta(min_length=1)] | None = None
    truncate: bool | None = None
    top_k: Annotated[int, Meta(ge=1, le=1000)] | None = None
    activation: str | None = None
    targets: Text | Annotated[list[Text], Meta(min_length=1)] | None = None
    stride: Annotated[int, Meta(ge=1)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=1000)] | None = None
    allow_no_answer: bool | None = None
    pooling: str | None = None
    normalize: bool | None = None
    prompt_name: str | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None


class PredictAnswer(Struct):
    """The answers, in the order of the texts; what each holds depends on the task."""

    model: str
    task: str
    answers: list[Any]


class EmbeddingsRequest(Struct):
    """Texts to embed: a string or strings, or token ids of this model's own tokenizer, with special tokens: a
    list for one input, a list of lists for several.

    ``dimensions``: keep so many numbers of a vector, the first ones, and scale them to length 1.
    ``encoding_format``: float or base64. ``truncate`` cuts texts that are too long; null is the server's
    default. ``prompt_name``: one of the prompts of a model of a sentence-transformers folder; null for its
    default. Other fields of OpenAI's API are ignored.
    """

    input: Text | Annotated[list[Text | int | list[int]], Meta(min_length=1)]
    model: str | None = None
    encoding_format: str | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    user: str | None = None
    truncate: bool | None = None
    prompt_name: str | None = None


class Embedding(Struct):
    """A vector: a list of numbers, or base64 of little-endian float32 values.

    Its Euclidean length is 1, except for whole vectors of a model of a sentence-transformers folder without
    Normalize.
    """

    index: int
    embedding: list[float] | str
    object: str = "embedding"


class Usage(Struct):
    """The number of tokens that were computed: with special tokens and prompts, without what was cut."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(Struct):
    """The vectors, in the order of the texts."""

    data: list[Embedding]
    model: str
    usage: Usage
    object: str = "list"


class Document(Struct):
    """A document as an object."""

    text: Text


class RerankRequest(Struct):
    """Documents to order by their relevance to a query, as Cohere's and Jina's clients ask.

    ``top_n``: how many to return. ``return_documents`` true repeats each document. ``truncate`` cuts texts
    that are too long; null is the server's default. Other fields of these APIs are ignored.
    """

    query: Text
    documents: Annotated[list[Text | Document], Meta(min_length=1)]
    model: str | None = None
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool | None = None
    truncate: bool | None = None


class RankedDocument(Struct, omit_defaults=True):
    """A document: its place in the request, and how relevant it is by the model."""

    index: int
    relevance_score: float
    document: Document | None = None


class RerankAnswer(Struct):
    """The documents, the most relevant first."""

    model: str
    results: list[RankedDocument]
    usage: Usage


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
