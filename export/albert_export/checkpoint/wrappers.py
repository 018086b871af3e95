"""What training leaves around an ALBERT: wrappers that put a prefix before every tensor's name.

DataParallel writes module., torch.compile _orig_mod., a class of the user's own the name of its attribute
(encoder.), sentence-transformers 0.auto_model. The word table's name tells the prefix.
"""

import re
from collections.abc import Mapping

from ..errors import ExportError
from .stored_tensor import StoredTensors, shown

_WORDS = "embeddings.word_embeddings.weight"
# Read as it is: a name in both libraries.
_BASE = "albert."
# What a training loop calls the state dict in the dict that it saves, in the order in which one counts.
_STATES = ("state_dict", "model_state_dict", "model", "net", "module", "model_state", "ema")
# Written wherever a part of the model was wrapped.
_ANYWHERE = re.compile(r"(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_DEEPEST = 3


def unwrapped(state: Mapping[str, object]) -> Mapping[str, object]:
    """The dict of tensors inside a training loop's dict, or ``state`` itself if it is none."""
    for _ in range(_DEEPEST):
        if any(isinstance(name, str) and name.endswith(_WORDS) for name in state):
            break
        inner = next((state[name] for name in _STATES if isinstance(state.get(name), dict)), None)
        if not isinstance(inner, dict):
            break
        state = inner
    return state


def without_wrappers(stored: StoredTensors) -> StoredTensors:
    """The tensors of an ALBERT without the prefix that a wrapper gave them, and its heads' beside it.

    Tensors elsewhere in the wrapper keep their names, as what is no part of the model. Without a word table
    all keep theirs: what is missing is told later. ExportError for more than one ALBERT.
    """
    if any(_ANYWHERE.search(name) for name in stored):
        stored = _renamed(stored, {name: _ANYWHERE.sub("", name) for name in stored})
    prefixes = {name.removesuffix(_WORDS) for name in stored if name.endswith(_WORDS)}
    if len(prefixes) > 1:
        listed = ", ".join(shown(prefix or "(none)", 40) for prefix in sorted(prefixes)[:4])
        raise ExportError(
            f"the checkpoint holds {len(prefixes)} embedding tables, behind the prefixes {listed}; "
            "save the one model's state dict alone"
        )
    prefix = next(iter(prefixes), "")
    if prefix in ("", _BASE) or not prefix.endswith("."):
        return stored
    # A head lies beside the attribute that holds the encoder.
    outer = prefix[: prefix.rfind(".", 0, -1) + 1]
    inner = {name: name.removeprefix(prefix) for name in stored if name.startswith(prefix)}
    return _renamed(stored, {**{name: name.removeprefix(outer) for name in stored}, **inner})


def _renamed(stored: StoredTensors, names: Mapping[str, str]) -> StoredTensors:
    """The tensors under other names; ExportError if two get the same."""
    found: StoredTensors = {}
    for name, value in stored.items():
        if names[name] in found:
            raise ExportError(f"the checkpoint holds {shown(names[name])} twice, once as {shown(name)}")
        found[names[name]] = value
    return found
