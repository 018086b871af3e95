"""Triton's configuration, statistics and repository, by its own clients and as perf_analyzer asks."""

import json
import struct
import warnings

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the clients' imports
    http = pytest.importorskip("tritonclient.http")
    grpc = pytest.importorskip("tritonclient.grpc")
    from tritonclient.grpc import model_config_pb2, service_pb2
from google.protobuf.json_format import MessageToDict, ParseDict
from tritonclient.utils import InferenceServerException

EXTENSIONS = {"binary_tensor_data", "model_configuration", "model_repository", "statistics"}
DURATIONS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")


@pytest.fixture(scope="module")
def served(start, artifacts):
    """A server whose models may be loaded; two versions of "embedder"."""
    names = ("embedder", "embedder 2", "sentiment", "chooser")
    return start([artifacts[name] for name in names], "--allow-load", "--max-texts", 64)


@pytest.fixture(params=["http", "grpc"])
def triton(request, served):
    """(the client's module, a client)."""
    module = {"http": http, "grpc": grpc}[request.param]
    address = served.url.removeprefix("http://") if request.param == "http" else served.grpc
    with module.InferenceServerClient(address) as client:
        yield module, client


def as_dict(answer):
    """JSON as it is, a message as perf_analyzer turns it into JSON."""
    if isinstance(answer, dict | list):
        return answer
    return MessageToDict(answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def config_of(client, *names):
    found = as_dict(client.get_model_config(*names))
    return found.get("config", found)


def test_the_extensions_are_told(triton):
    """perf_analyzer asks for statistics only where they are named."""
    _, client = triton
    assert set(as_dict(client.get_server_metadata())["extensions"]) == EXTENSIONS


def test_the_configuration(triton):
    _, client = triton
    config = config_of(client, "embedder")
    assert (config["name"], config["max_batch_size"]) == ("embedder", 64)
    assert config["platform"] == config["backend"] == "albert_runtime"
    assert "dynamic_batching" in config and "sequence_batching" not in config
    assert config["model_transaction_policy"] == {"decoupled": False}
    assert config["instance_group"][0]["kind"] == "KIND_CPU"
    inputs = {one["name"]: one for one in config["input"]}
    assert list(inputs) == ["input_ids", "attention_mask", "token_type_ids", "text", "text_pair"]
    assert all(one["optional"] is True for one in inputs.values())
    assert inputs["input_ids"]["data_type"] == "TYPE_INT64" and inputs["text"]["data_type"] == "TYPE_STRING"
    assert [int(size) for size in inputs["input_ids"]["dims"]] == [-1]
    assert [int(size) for size in inputs["text"]["dims"]] == [1] and inputs["text"]["reshape"] == {
        "shape": []
    }
    outputs = {one["name"]: [int(size) for size in one["dims"]] for one in config["output"]}
    assert outputs == {"last_hidden_state": [-1, 12], "pooled_output": [12]}
    choices = {one["name"]: one for one in config_of(client, "chooser")["input"]}
    assert [int(size) for size in choices["input_ids"]["dims"]] == [-1, -1]
    assert not choices["input_ids"]["optional"] and choices["attention_mask"]["optional"]


def test_configurations_are_tritons_messages(served):
    """As protoc made them: no field is unknown or of another type, and gRPC says what HTTP says."""
    with (
        http.InferenceServerClient(served.url.removeprefix("http://")) as over_http,
        grpc.InferenceServerClient(served.grpc) as over_grpc,
    ):
        for name in ("embedder", "sentiment", "chooser"):
            told = over_http.get_model_config(name)
            message = ParseDict(told, model_config_pb2.ModelConfig())
            assert message == over_grpc.get_model_config(name).config
        told = over_http.get_inference_statistics()
        message = ParseDict(told, service_pb2.ModelStatisticsResponse())
        assert message == over_grpc.get_inference_statistics()
        told = {"models": over_http.get_model_repository_index()}
        message = ParseDict(told, service_pb2.RepositoryIndexResponse())
        assert message == over_grpc.get_model_repository_index()


def statistics_of(client, *names):
    (found,) = as_dict(client.get_inference_statistics(*names))["model_stats"]
    counts = {name: int(found[name]) for name in ("inference_count", "execution_count", "last_inference")}
    stats = {
        name: {key: int(value) for key, value in one.items()}
        for name, one in found["inference_stats"].items()
    }
    return counts, stats, found


def test_the_statistics_count_what_was_asked(triton):
    module, client = triton
    given = module.InferInput("input_ids", [3, 4], "INT64")
    given.set_data_from_numpy(np.full((3, 4), 7))
    before, durations_before, _ = statistics_of(client, "sentiment", "1")
    for _ in range(4):
        client.infer("sentiment", [given])
    given.set_data_from_numpy(np.full((3, 4), 10**6))
    with pytest.raises(InferenceServerException):
        client.infer("sentiment", [given])
    after, durations, found = statistics_of(client, "sentiment", "1")
    assert after["inference_count"] - before["inference_count"] == 12
    assert after["execution_count"] - before["execution_count"] == 4
    assert after["last_inference"] > 1.7e12  # milliseconds
    grown = {name: one["count"] - durations_before[name]["count"] for name, one in durations.items()}
    assert grown == {**dict.fromkeys(DURATIONS, 4), "fail": 1, "cache_hit": 0, "cache_miss": 0}
    spent = {name: one["ns"] - durations_before[name]["ns"] for name, one in durations.items()}
    assert 0 < spent["queue"] + spent["compute_infer"] <= spent["success"] < 60e9
    rows = {int(one["batch_size"]): one["compute_infer"] for one in found["batch_stats"]}
    assert int(rows[3]["count"]) >= 4 and int(rows[3]["ns"]) > 0


def test_statistics_of_versions_and_of_all(triton):
    _, client = triton

    def names(*asked):
        found = as_dict(client.get_inference_statistics(*asked))["model_stats"]
        return [(one["name"], one["version"]) for one in found]

    both = [("embedder", "1"), ("embedder", "2")]
    assert names() == [*both, ("sentiment", "1"), ("chooser", "1")]
    assert names("embedder") == both and names("embedder", "2") == both[1:]
    for asked in (("nobody",), ("embedder", "9")):
        for call in (client.get_inference_statistics, client.get_model_config):
            with pytest.raises(InferenceServerException, match=asked[-1]):
                call(*asked)


def test_the_repository(triton):
    _, client = triton
    index = as_dict(client.get_model_repository_index())
    models = index["models"] if isinstance(index, dict) else index
    expected = [("embedder", "1"), ("embedder", "2"), ("sentiment", "1"), ("chooser", "1")]
    assert [(one["name"], one["version"]) for one in models] == expected
    assert all(one["state"] == "READY" and one["reason"] == "" for one in models)
    client.unload_model("chooser")
    assert not client.is_model_ready("chooser") and client.is_server_ready()
    client.load_model("chooser")
    assert client.is_model_ready("chooser")
    with pytest.raises(InferenceServerException, match="config"):
        client.load_model("chooser", config="{}")
    with pytest.raises(InferenceServerException, match="nobody"):
        client.load_model("nobody")


def test_loading_is_refused_without_the_flag(server):
    for module, address in ((http, server.url.removeprefix("http://")), (grpc, server.grpc)):
        with module.InferenceServerClient(address) as client:
            for call in (client.load_model, client.unload_model):
                with pytest.raises(InferenceServerException, match="--allow-load") as caught:
                    call("embedder")
                assert caught.value.status() in ("403", "StatusCode.PERMISSION_DENIED")


def test_the_calls_of_perf_analyzer(served, predictors):
    """In its order: metadata, configuration, statistics, binary batches as large as -b says, statistics."""
    ask = served.http
    metadata = ask.get("/v2/models/sentiment/versions/1").json()
    config = ask.get("/v2/models/sentiment/versions/1/config").json()
    assert {one["name"] for one in metadata["inputs"]} == {one["name"] for one in config["input"]}
    assert {one["name"] for one in metadata["outputs"]} == {one["name"] for one in config["output"]}
    batch, width = 8, 5  # -b 8 --shape input_ids:5, data for input_ids only: the others are optional
    assert batch <= config["max_batch_size"]
    # It leaves out the first size of a shape in the metadata, and puts the batch in its place.
    (known,) = (one["shape"][1:] for one in metadata["inputs"] if one["name"] == "input_ids")
    assert known == [-1]

    def statistics():
        (found,) = ask.get("/v2/models/sentiment/versions/1/stats").json()["model_stats"]
        assert (found["name"], found["version"]) == ("sentiment", "1")
        for name in (*DURATIONS, "cache_hit", "cache_miss"):
            for key in ("count", "ns"):
                assert isinstance(found["inference_stats"][name][key], int)
        return found

    before = statistics()
    ids = np.full((batch, width), 7)
    item = {"name": "input_ids", "shape": [batch, width], "datatype": "INT64"}
    item["parameters"] = {"binary_data_size": ids.nbytes}
    head = json.dumps({"id": "0", "inputs": [item], "parameters": {"binary_data_output": True}}).encode()
    answer = ask.post(
        "/v2/models/sentiment/versions/1/infer",
        content=head + ids.tobytes(),
        headers={
            "inference-header-content-length": str(len(head)),
            "content-type": "application/octet-stream",
        },
    )
    length = int(answer.headers["inference-header-content-length"])
    (logits,) = json.loads(answer.content[:length])["outputs"]
    values = struct.unpack(f"<{logits['parameters']['binary_data_size'] // 4}f", answer.content[length:])
    expected = predictors["sentiment"].run({"input_ids": ids})["logits"]
    assert np.array_equal(np.float32(values).reshape(logits["shape"]), expected)
    after = statistics()
    assert after["inference_count"] - before["inference_count"] == batch
    assert after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"] == 1
