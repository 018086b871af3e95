"""What JSON requests and answers hold, typed; the OpenAPI document is made of these."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from ..errors import Malformed

Text = Annotated[str, Meta(min_length=1)]
Pair = Annotated[list[Text], Meta(min_length=2, max_length=2)]


class TensorIn(Struct):
    """An input: ``data`` in row-major order, or ``parameters.binary_data_size`` bytes after the JSON."""

    name: str
    shape: list[Annotated[int, Meta(ge=0, le=2**31)]]
    datatype: str
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class RequestedOutput(Struct):
    """An output that is asked for; ``parameters.binary_data`` says whether in bytes after the JSON."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(Struct):
    """POST /v2/models/NAME/infer. ``parameters.timeout``: microseconds."""

    inputs: Annotated[list[TensorIn], Meta(min_length=1, max_length=16)]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[RequestedOutput] | None = None


class TensorOut(Struct, omit_defaults=True):
    """An output tensor; without ``data`` its bytes come after the JSON."""

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
    """What is wrong."""

    error: str


class PredictRequest(Struct, forbid_unknown_fields=True):
    """POST /predict. ``model`` may be left out where there is one. Give one of ``text``, ``texts`` (strings,
    or pairs of them), ``question`` with ``context``, ``prompt`` with ``choices``.
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
    """The task's own answers, in the order of the texts."""

    model: str
    task: str
    answers: list[Any]


class EmbeddingsRequest(Struct):
    """POST /v1/embeddings. Token ids as ``input`` are refused: they would be those of another tokenizer."""

    input: Text | Annotated[list[Text], Meta(min_length=1)]
    model: str | None = None
    encoding_format: str = "float"
    dimensions: int | None = None
    user: str | None = None


class Embedding(Struct):
    """One vector, of length 1; its numbers, or in base64 their little-endian float32 bytes."""

    index: int
    embedding: list[float] | str
    object: str = "embedding"


class Usage(Struct):
    """Tokens of the texts, without special ones."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(Struct):
    """The vectors in the order of the texts."""

    data: list[Embedding]
    model: str
    usage: Usage
    object: str = "list"


class OpenAiErrorBody(Struct):
    """What is wrong, as OpenAI's clients read it."""

    message: str
    type: str
    code: str


class OpenAiError(Struct):
    """What is wrong, as OpenAI's clients read it."""

    error: OpenAiErrorBody


def decode(kind: type[Any], body: bytes | memoryview) -> Any:
    """The body as one of these; Malformed says where it is not."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the body is not the JSON that is asked for: {error}"[:400]) from None


encode = msgspec.json.encode
