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
# or an enum of the same package. "repeated TYPE" is a list, "map TYPE" a map from strings.
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
    "RepositoryIndexRequest": (("repository_name", 1, "string"), ("ready", 2, "bool")),
    "ModelIndex": (
        ("name", 1, "string"),
        ("version", 2, "string"),
        ("state", 3, "string"),
        ("reason", 4, "string"),
    ),
    "RepositoryIndexResponse": (("models", 1, "repeated ModelIndex"),),
    "ModelRepositoryParameter": (
        ("bool_param", 1, "bool"),
        ("int64_param", 2, "int64"),
        ("string_param", 3, "string"),
        ("bytes_param", 4, "bytes"),
    ),
    "RepositoryModelLoadRequest": (
        ("repository_name", 1, "string"),
        ("model_name", 2, "string"),
        ("parameters", 3, "map ModelRepositoryParameter"),
    ),
    "RepositoryModelLoadResponse": (),
    "RepositoryModelUnloadRequest": (
        ("repository_name", 1, "string"),
        ("model_name", 2, "string"),
        ("parameters", 3, "map ModelRepositoryParameter"),
    ),
    "RepositoryModelUnloadResponse": (),
    "StatisticDuration": (("count", 1, "uint64"), ("ns", 2, "uint64")),
    "InferStatistics": (
        ("success", 1, "StatisticDuration"),
        ("fail", 2, "StatisticDuration"),
        ("queue", 3, "StatisticDuration"),
        ("compute_input", 4, "StatisticDuration"),
        ("compute_infer", 5, "StatisticDuration"),
        ("compute_output", 6, "StatisticDuration"),
        ("cache_hit", 7, "StatisticDuration"),
        ("cache_miss", 8, "StatisticDuration"),
    ),
    "InferBatchStatistics": (
        ("batch_size", 1, "uint64"),
        ("compute_input", 2, "StatisticDuration"),
        ("compute_infer", 3, "StatisticDuration"),
        ("compute_output", 4, "StatisticDuration"),
    ),
    "MemoryUsage": (("type", 1, "string"), ("id", 2, "int64"), ("byte_size", 3, "uint64")),
    "ModelStatistics": (
        ("name", 1, "string"),
        ("version", 2, "string"),
        ("last_inference", 3, "uint64"),
        ("inference_count", 4, "uint64"),
        ("execution_count", 5, "uint64"),
        ("inference_stats", 6, "InferStatistics"),
        ("batch_stats", 7, "repeated InferBatchStatistics"),
        ("memory_usage", 8, "repeated MemoryUsage"),
    ),
    "ModelStatisticsRequest": (("name", 1, "string"), ("version", 2, "string")),
    "ModelStatisticsResponse": (("model_stats", 1, "repeated ModelStatistics"),),
    "ModelTensorReshape": (("shape", 1, "repeated int64"),),
    "ModelInput": (
        ("name", 1, "string"),
        ("data_type", 2, "DataType"),
        ("format", 3, "Format"),
        ("dims", 4, "repeated int64"),
        ("reshape", 5, "ModelTensorReshape"),
        ("is_shape_tensor", 6, "bool"),
        ("allow_ragged_batch", 7, "bool"),
        ("optional", 8, "bool"),
    ),
    "ModelOutput": (
        ("name", 1, "string"),
        ("data_type", 2, "DataType"),
        ("dims", 3, "repeated int64"),
        ("label_filename", 4, "string"),
        ("is_shape_tensor", 6, "bool"),
    ),
    "AllVersions": (),
    "ModelVersionPolicy": (("all", 2, "AllVersions"),),
    "ModelInstanceGroup": (
        ("name", 1, "string"),
        ("count", 2, "int32"),
        ("gpus", 3, "repeated int32"),
        ("kind", 4, "Kind"),
        ("profile", 5, "repeated string"),
    ),
    "ModelDynamicBatching": (("preferred_batch_size", 1, "repeated int32"), ("preserve_ordering", 3, "bool")),
    "ModelTransactionPolicy": (("decoupled", 1, "bool"),),
    "ModelConfig": (
        ("name", 1, "string"),
        ("platform", 2, "string"),
        ("version_policy", 3, "ModelVersionPolicy"),
        ("max_batch_size", 4, "int32"),
        ("input", 5, "repeated ModelInput"),
        ("output", 6, "repeated ModelOutput"),
        ("instance_group", 7, "repeated ModelInstanceGroup"),
        ("dynamic_batching", 11, "ModelDynamicBatching"),
        ("backend", 17, "string"),
        ("model_transaction_policy", 19, "ModelTransactionPolicy"),
    ),
    "ModelConfigRequest": (("name", 1, "string"), ("version", 2, "string")),
    "ModelConfigResponse": (("config", 1, "ModelConfig"),),
}
# The values of enums that answers have, and that of 0, which an enum needs.
_ENUMS = {
    "DataType": {"TYPE_INVALID": 0, "TYPE_INT64": 9, "TYPE_FP32": 11, "TYPE_STRING": 13},
    "Format": {"FORMAT_NONE": 0},
    "Kind": {"KIND_AUTO": 0, "KIND_GPU": 1, "KIND_CPU": 2},
}
_HEALTH_MESSAGES: Messages = {
    "HealthCheckRequest": (("service", 1, "string"),),
    "HealthCheckResponse": (("status", 1, "int32"),),  # an enum, which is encoded as int32
}
# Messages whose fields form a oneof, with its name.
_ONEOFS = {"InferParameter": "parameter_choice", "ModelRepositoryParameter": "parameter_choice"}


def _build_classes(package: str, messages: Messages) -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, values in _ENUMS.items():
        enum = file.enum_type.add(name=name)
        for value, number in values.items():
            enum.value.add(name=value, number=number)
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
    elif type_name in _ENUMS:
        field.type, field.type_name = _FieldDescriptor.TYPE_ENUM, f".{package}.{type_name}"
    elif type_name[0].isupper():
        field.type, field.type_name = _FieldDescriptor.TYPE_MESSAGE, f".{package}.{type_name}"
    else:
        field.type = getattr(_FieldDescriptor, f"TYPE_{type_name.upper()}")


MESSAGES = _build_classes(_INFERENCE, _INFERENCE_MESSAGES) | _build_classes(_HEALTH, _HEALTH_MESSAGES)
