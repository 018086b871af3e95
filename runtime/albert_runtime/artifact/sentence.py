"""From hidden states to the embedding of a text: what the modules of a sentence-transformers folder say.

``SentenceHead`` is what the program and the graph compute: pooling, then steps, each on the vector of the one
before. ``SentenceTexts`` is what texts become before they are rows: prompts.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..errors import ArtifactError
from .json_fields import clip, fail_field

CLS, MAX, MEAN, MEAN_SQRT_LENGTH = "cls", "max", "mean", "mean_sqrt_len_tokens"
WEIGHTED_MEAN, LAST_TOKEN = "weightedmean", "lasttoken"
POOLINGS = (CLS, MAX, MEAN, MEAN_SQRT_LENGTH, WEIGHTED_MEAN, LAST_TOKEN)

DENSE, NORMALIZE = "dense", "normalize"
# torch.nn's classes of these names with their default arguments.
ACTIVATIONS = (
    "Identity",
    "Tanh",
    "ReLU",
    "ReLU6",
    "LeakyReLU",
    "ELU",
    "SELU",
    "GELU",
    "SiLU",
    "Mish",
    "Sigmoid",
    "Softplus",
)
# What torch.nn.functional.normalize divides by at least.
LEAST_NORM = 1e-12
# What means divide by at least, as sentence-transformers has it.
LEAST_WEIGHT = 1e-9
# Added to the states of masked tokens, so that none is the greatest.
BELOW_ALL = -1e30
PREFIX = "sentence."

_MAX_STEPS = 64
_MAX_WIDTH = 1 << 20
_MAX_PROMPTS = 10_000


@dataclass(frozen=True, slots=True)
class Step:
    """One step after pooling: ``dense``, activation(x W + b) with W [inputs, outputs], or ``normalize``.

    A normalize step has none of the other fields.
    """

    kind: str
    inputs: int = 0
    outputs: int = 0
    bias: bool = False
    activation: str = ""

    def __post_init__(self) -> None:
        if self.kind == NORMALIZE:
            if (self.inputs, self.outputs, self.bias, self.activation) != (0, 0, False, ""):
                raise ArtifactError("a normalize step has no sizes, bias or activation")
            return
        if self.kind != DENSE:
            raise ArtifactError(f"step {clip(self.kind)} is unknown; known are {DENSE} and {NORMALIZE}")
        for size in (self.inputs, self.outputs):
            if type(size) is not int or not 1 <= size <= _MAX_WIDTH:
                raise ArtifactError(
                    f"a dense step has sizes from 1 to {_MAX_WIDTH}, not {clip([self.inputs, self.outputs])}"
                )
        if type(self.bias) is not bool:
            raise ArtifactError(f"bias of a dense step must be true or false, not {clip(self.bias)}")
        if self.activation not in ACTIVATIONS:
            raise ArtifactError(
                f"activation {clip(self.activation)} of a dense step is unknown; known are "
                f"{', '.join(ACTIVATIONS)}"
            )


@dataclass(frozen=True, slots=True)
class SentenceHead:
    """How a text's vector is made. ``pooling``: some of POOLINGS, their vectors joined in order."""

    pooling: tuple[str, ...]
    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= len(self.pooling) <= len(POOLINGS) or len(self.steps) > _MAX_STEPS:
            raise ArtifactError(
                f"a sentence head has 1 to {len(POOLINGS)} poolings and at most {_MAX_STEPS} steps"
            )
        for pooling in self.pooling:
            if pooling not in POOLINGS:
                raise ArtifactError(f"pooling {clip(pooling)} is unknown; known are {', '.join(POOLINGS)}")

    @classmethod
    def from_dict(cls, data: object) -> "SentenceHead":
        """Build from the JSON of a manifest; ArtifactError names what is wrong."""
        if not isinstance(data, dict) or data.keys() != {"pooling", "steps"}:
            raise ArtifactError("sentence must be an object of pooling and steps")
        if not isinstance(data["pooling"], list) or not isinstance(data["steps"], list):
            raise ArtifactError("pooling and steps of sentence must be lists")
        names = {field.name for field in fields(Step)}
        steps = []
        for step in data["steps"]:
            if not isinstance(step, dict) or step.keys() != names:
                raise ArtifactError(f"a step of sentence must have exactly the fields {sorted(names)}")
            steps.append(Step(**step))
        return cls(tuple(data["pooling"]), tuple(steps))

    def width(self, hidden_size: int) -> int:
        """D, the size of the vectors; ArtifactError if a dense step does not take what it is given."""
        width = len(self.pooling) * hidden_size
        for index, step in enumerate(self.steps):
            if step.kind == DENSE:
                if step.inputs != width:
                    raise ArtifactError(
                        f"dense step {index} takes vectors of {step.inputs} numbers and is given {width}"
                    )
                width = step.outputs
        return width

    def tensor_shapes(self, hidden_size: int) -> dict[str, tuple[int, ...]]:
        """The tensors of the dense steps, named ``sentence.STEP.weight`` and ``.bias``; always float32."""
        self.width(hidden_size)
        shapes: dict[str, tuple[int, ...]] = {}
        for index, step in enumerate(self.steps):
            if step.kind == DENSE:
                shapes[f"{PREFIX}{index}.weight"] = (step.inputs, step.outputs)
                if step.bias:
                    shapes[f"{PREFIX}{index}.bias"] = (step.outputs,)
        return shapes


@dataclass(frozen=True, slots=True)
class SentenceTexts:
    """How texts become rows for a sentence head.

    Attributes:
        prompts: Text to put before a text, by name; "" puts none.
        default_prompt_name: The prompt of texts for which none is named; None for no prompt.
        include_prompt: Whether the tokens of a prompt are pooled.
    """

    prompts: Mapping[str, str]
    default_prompt_name: str | None = None
    include_prompt: bool = True

    def __post_init__(self) -> None:
        texts = [*self.prompts.keys(), *self.prompts.values()]
        if len(self.prompts) > _MAX_PROMPTS or not all(isinstance(text, str) for text in texts):
            raise ArtifactError(f"prompts must be at most {_MAX_PROMPTS} texts by name")
        if any("\ud800" <= letter <= "\udfff" for text in texts for letter in text):
            raise ArtifactError("prompts hold a lone surrogate, which is no text")
        name = self.default_prompt_name
        if name is not None and not (isinstance(name, str) and name in self.prompts):
            raise ArtifactError(f"default_prompt_name is {clip(name)}, which is none of the prompts")
        if type(self.include_prompt) is not bool:
            raise ArtifactError(f"include_prompt must be true or false, not {clip(self.include_prompt)}")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "SentenceTexts":
        """Build from the JSON of a manifest; ArtifactError names what is wrong."""
        names = {field.name for field in fields(cls)}
        if data.keys() != names:
            fail_field("sentence_texts", f"must have exactly the fields {', '.join(sorted(names))}")
        if not isinstance(data["prompts"], dict):
            fail_field("sentence_texts.prompts", f"must be an object, not {clip(data['prompts'])}")
        try:
            return cls(**data)
        except ArtifactError as error:
            fail_field("sentence_texts", f"is wrong: {error}")

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, ready for JSON."""
        return asdict(self)
