"""Reads ProgramDesc, the protocol buffer of a .pdmodel (paddle/fluid/framework/framework.proto).

It is blocks of variables and operators. The first block is the program; others belong to operators of
control flow, which no ALBERT has.
"""

import struct
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ...checkpoint.stored_tensor import shown
from ...paddle_model.pdiparams import DATA_TYPES
from ...protobuf import Malformed, message_fields, varints
from .paddle_program import Damaged, data_type, sizes_of

_Fields = dict[int, list[int | bytes]]

_DENSE_TENSOR = 7  # VarType.Type, of the variables that are tensors
# Attributes that are numbers of types.
_DTYPES = ("dtype", "out_dtype")


@dataclass(frozen=True)
class Variable:
    """A tensor of the program; ``dtype`` may be bfloat16, or '' for a type unknown here."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    persistable: bool


@dataclass(frozen=True)
class Operator:
    """An operator as the file has it: variables by parameter."""

    kind: str
    inputs: dict[str, tuple[str, ...]]
    outputs: dict[str, tuple[str, ...]]
    attributes: dict[str, object]


def read_program_desc(data: bytes) -> tuple[dict[str, Variable], list[Operator]]:
    """The tensors of all blocks by name, and the operators of the first block in order.

    Raises Malformed or Damaged.
    """
    blocks = [_fields(block) for block in _messages(_fields(data), 1)]
    if not blocks:
        raise Damaged("it has no block")
    found = (_variable(message) for block in blocks for message in _messages(block, 3))
    variables = {variable.name: variable for variable in found if variable is not None}
    return variables, [_operator(message) for message in _messages(blocks[0], 4)]


def _variable(data: bytes) -> Variable | None:
    """A VarDesc; None if it is no tensor."""
    fields = _fields(data)
    kind = _fields(_bytes(fields, 2))
    if _integer(kind, 1) != _DENSE_TENSOR:
        return None
    tensor = _fields(_bytes(_fields(_bytes(kind, 3)), 1))
    name, dtype = _text(_bytes(fields, 1)), DATA_TYPES.get(_integer(tensor, 1), "")
    try:
        return Variable(name, dtype, sizes_of(_integers(tensor, 2)), bool(_integer(fields, 3)))
    except Damaged as error:
        raise Damaged(f"{shown(name)}: {error}") from None


def _operator(data: bytes) -> Operator:
    """An OpDesc."""
    fields = _fields(data)
    attributes = {}
    for message in _messages(fields, 4):
        attribute = _fields(message)
        name = _text(_bytes(attribute, 1))
        attributes[name] = _attribute(attribute, name)
    kind = _text(_bytes(fields, 3))
    return Operator(kind, _parameters(fields, 1), _parameters(fields, 2), attributes)


def _parameters(fields: _Fields, field: int) -> dict[str, tuple[str, ...]]:
    """OpDesc.Var: a parameter's name and its variables'."""
    parameters = {}
    for message in _messages(fields, field):
        variables = _fields(message)
        names = tuple(_text(item) for item in _messages(variables, 2))
        parameters[_text(_bytes(variables, 1))] = names
    return parameters


def _attribute(fields: _Fields, name: str) -> object:
    """OpDesc.Attr; None for one of a kind that no operator here has."""
    read = _ATTRIBUTES.get(_integer(fields, 2))
    value = None if read is None else read(fields)
    return data_type(DATA_TYPES.get(value, "")) if name in _DTYPES and isinstance(value, int) else value


def _scalar(data: bytes) -> object:
    """Scalar: one number of the type that it says."""
    fields = _fields(data)
    read = _SCALARS.get(_integer(fields, 1))
    return None if read is None else read(fields)


def _fields(data: bytes) -> _Fields:
    fields: _Fields = defaultdict(list)
    for field, value in message_fields(data):
        fields[field].append(value)
    return fields


def _messages(fields: _Fields, field: int) -> Iterator[bytes]:
    for value in fields.get(field, ()):
        if not isinstance(value, bytes):
            raise Malformed("a field is of another type")
        yield value


def _bytes(fields: _Fields, field: int, default: bytes | None = None) -> bytes:
    """The last value of a field, which must be there if there is no default."""
    *_, value = (default, *_messages(fields, field))
    if value is None:
        raise Malformed("a field is missing")
    return value


def _integers(fields: _Fields, field: int) -> tuple[int, ...]:
    """All values of a field, which may be packed; negative ones are written as 64 bits."""
    numbers: list[int] = []
    for value in fields.get(field, ()):
        numbers += [value] if isinstance(value, int) else varints(value)
    return tuple(((number + (1 << 63)) % (1 << 64)) - (1 << 63) for number in numbers)


def _integer(fields: _Fields, field: int) -> int:
    """The last value of a field, 0 if it is left out."""
    return (0, *_integers(fields, field))[-1]


def _floats(fields: _Fields, field: int, form: str) -> Iterator[float]:
    for value in _messages(fields, field):
        try:
            yield from (number for (number,) in struct.iter_unpack(form, value))
        except struct.error:
            raise Malformed("a number is cut short") from None


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Malformed("a name is not UTF-8 text") from None


_Read = Callable[[_Fields], object]
# AttrType -> how the attribute's value is read.
_ATTRIBUTES: Mapping[int, _Read] = {
    0: lambda fields: _integer(fields, 3),
    1: lambda fields: next(_floats(fields, 4, "<f"), 0.0),
    2: lambda fields: _text(_bytes(fields, 5, b"")),
    3: lambda fields: _integers(fields, 6),
    4: lambda fields: tuple(_floats(fields, 7, "<f")),
    6: lambda fields: bool(_integer(fields, 10)),
    7: lambda fields: tuple(bool(number) for number in _integers(fields, 11)),
    9: lambda fields: _integer(fields, 13),
    11: lambda fields: _integers(fields, 15),
    12: lambda fields: tuple(_floats(fields, 16, "<d")),
    15: lambda fields: next(_floats(fields, 19, "<d"), 0.0),
    16: lambda fields: _scalar(_bytes(fields, 20, b"")),
    17: lambda fields: tuple(_scalar(message) for message in _messages(fields, 21)),
}
# Scalar.Type -> the same.
_SCALARS: Mapping[int, _Read] = {
    1: lambda fields: bool(_integer(fields, 2)),
    2: lambda fields: _integer(fields, 3),
    3: lambda fields: next(_floats(fields, 4, "<d"), 0.0),
}
