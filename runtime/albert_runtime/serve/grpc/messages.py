"""The protobuf messages of the Open Inference Protocol and of gRPC's health protocol, built at run time.

They equal what protoc generates from grpc_service.proto and health.proto, as far as this server uses them.
Built at run time they work with any release of protobuf; in descriptor pools of their own they do not collide
with the messages of a client in the same process.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_INFERENCE, _HEALTH = "inference", "grpc.health.v1"
SERVICE, HEALTH_SERVICE = f"{_INFERENCE}.GRPCInferenceService", f"{_HEALTH}.Health"
SERVING, NOT_SERVING = 1, 2  # HealthCheckResponse.ServingStatus
_FieldDescriptor = descriptor_pb2.FieldDescriptorProto

Messages = dict[str, tuple[tuple[str, int, str], ...]]

# For each message its fields: name, number and type. A type is a scalar or, with a capital letter, a message
# of the same package. "repeated TYPE" is a list, "map TYPE" a map from strings.
_INFERENCE_MESSAGES: Messages = {
    "ServerLiveRequest": (),
    "ServerLiveResponse": (("live", 1, "bool"),),
    "ServerReadyRequest": (),
    "ServerReadyResponse": (("ready", 1, "bool"),),
    "ModelReadyRequest": (("name", 1, "string"), ("version", 2, "string")),
    "ModelReadyResponse": (("ready", 1, "bool"),),
    "ServerMetadataRequest": (),
    "ServerMetadataResponse": (
        ("name", 1, "string"),
        ("version", 2, "string"),
        ("extensions", 3, "repeated string"),
    ),
    "ModelMetadataRequest": (("name", 1, "string"), ("version", 2, "string")),
    "TensorMetadata": (("name", 1, "string"), ("datatype", 2, "string"), ("shape", 3, "repeated int64")),
    "ModelMetadataResponse": (
        ("name", 1, "string"),
        ("versions", 2, "repeated string"),
        ("platform", 3, "string"),
        ("inputs", 4, "repeated TensorMetadata"),
        ("outputs", 5, "repeated TensorMetadata"),
    ),
    "InferParameter": (
        ("bool_param", 1, "bool"),
        ("int64_param", 2, "int64"),
        ("string_param", 3, "string"),
        ("double_param", 4, "double"),
        ("uint64_param", 5, "uint64"),
    ),
    "InferTensorContents": (
        ("bool_contents", 1, "repeated bool"),
        ("int_contents", 2, "repeated int32"),
        ("int64_contents", 3, "repeated int64"),
        ("uint_contents", 4, "repeated uint32"),
        ("uint64_contents", 5, "repeated uint64"),
        ("fp32_contents", 6, "repeated float"),
        ("fp64_contents", 7, "repeated double"),
        ("bytes_contents", 8, "repeated bytes"),
    ),
    "InferInputTensor": (
        ("name", 1, "string"),
        ("datatype", 2, "string"),
        ("shape", 3, "repeated int64"),
        ("parameters", 4, "map InferParameter"),
        ("contents", 5, "InferTensorContents"),
    ),
    "InferRequestedOutputTensor": (("name", 1, "string"), ("parameters", 2, "map InferParameter")),
    "ModelInferRequest": (
        ("model_name", 1, "string"),
        ("model_version", 2, "string"),
        ("id", 3, "string"),
        ("parameters", 4, "map InferParameter"),
        ("inputs", 5, "repeated InferInputTensor"),
        ("outputs", 6, "repeated InferRequestedOutputTensor"),
        ("raw_input_contents", 7, "repeated bytes"),
    ),
    "InferOutputTensor": (
        ("name", 1, "string"),
        ("datatype", 2, "string"),
        ("shape", 3, "repeated int64"),
        ("parameters", 4, "map InferParameter"),
        ("contents", 5, "InferTensorContents"),
    ),
    "ModelInferResponse": (
        ("model_name", 1, "string"),
        ("model_version", 2, "string"),
        ("id", 3, "string"),
        ("parameters", 4, "map InferParameter"),
        ("outputs", 5, "repeated InferOutputTensor"),
        ("raw_output_contents", 6, "repeated bytes"),
    ),
}
_HEALTH_MESSAGES: Messages = {
    "HealthCheckRequest": (("service", 1, "string"),),
    "HealthCheckResponse": (("status", 1, "int32"),),  # an enum, which is encoded as int32
}
# Messages whose fields form a oneof, with its name.
_ONEOFS = {"InferParameter": "parameter_choice"}


def _build_classes(package: str, messages: Messages) -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        if name in _ONEOFS:
            message.oneof_decl.add(name=_ONEOFS[name])
        for field in fields:
            _add_field(package, message, *field)
            if name in _ONEOFS:
                message.field[-1].oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in messages
    }


def _add_field(
    package: str, message: descriptor_pb2.DescriptorProto, name: str, number: int, kind: str
) -> None:
    label, _, type_name = kind.rpartition(" ")
    field = message.field.add(name=name, number=number)
    field.label = _FieldDescriptor.LABEL_REPEATED if label else _FieldDescriptor.LABEL_OPTIONAL
    if label == "map":
        entry = message.nested_type.add(name="".join(map(str.capitalize, name.split("_"))) + "Entry")
        entry.options.map_entry = True
        _add_field(package, entry, "key", 1, "string")
        _add_field(package, entry, "value", 2, type_name)
        field.type, field.type_name = _FieldDescriptor.TYPE_MESSAGE, f".{package}.{message.name}.{entry.name}"
    elif type_name[0].isupper():
        field.type, field.type_name = _FieldDescriptor.TYPE_MESSAGE, f".{package}.{type_name}"
    else:
        field.type = getattr(_FieldDescriptor, f"TYPE_{type_name.upper()}")


MESSAGES = _build_classes(_INFERENCE, _INFERENCE_MESSAGES) | _build_classes(_HEALTH, _HEALTH_MESSAGES)
