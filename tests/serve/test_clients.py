"""Triton's own clients, unchanged: what they ask and read is bit for bit what the Predictor answers."""

import asyncio
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from .conftest import assert_equal

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the clients' imports
    http = pytest.importorskip("tritonclient.http")
    grpc = pytest.importorskip("tritonclient.grpc")
    import tritonclient.grpc.aio as grpc_aio
    import tritonclient.http.aio as http_aio
from grpc import RpcError, StatusCode
from grpc import insecure_channel as channel_to
from tritonclient.utils import InferenceServerException

TEXTS = ["Anna Smith lives in Paris.", "who", "a b a b a b who, who"]
KINDS = {"http": http, "grpc": grpc}


@pytest.fixture(params=["http", "grpc"])
def triton(request, server):
    """(the client's module, a client)."""
    module = KINDS[request.param]
    address = server.url.removeprefix("http://") if request.param == "http" else server.grpc
    client = module.InferenceServerClient(address)
    yield module, client
    client.close()


def ids_of(seed, rows=3, width=9):
    generator = np.random.default_rng(seed)
    ids = generator.integers(5, 40, (rows, width))
    mask = np.ones_like(ids)
    for row in range(rows):
        mask[row, int(generator.integers(1, width + 1)) :] = 0
    return {"input_ids": ids, "attention_mask": mask}


def tensors(module, arrays, binary=None):
    found = []
    for name, values in arrays.items():
        kind = "BYTES" if values.dtype == object else {8: "INT64", 4: "INT32"}[values.itemsize]
        tensor = module.InferInput(name, list(values.shape), kind)
        if binary is None:
            tensor.set_data_from_numpy(values)
        else:
            tensor.set_data_from_numpy(values, binary_data=binary)
        found.append(tensor)
    return found


def texts_of(texts):
    return np.array([text.encode() for text in texts], dtype=object)


def arrays(result, names):
    return {name: result.as_numpy(name) for name in names}


NAMES = ("last_hidden_state", "pooled_output")


def test_ids(triton, predictors):
    module, client = triton
    batch = ids_of(1)
    result = client.infer("embedder", tensors(module, batch), model_version="1")
    assert_equal(arrays(result, NAMES), predictors["embedder"].run(batch))


def test_int32_and_token_types(triton, predictors):
    module, client = triton
    batch = {name: values.astype(np.int32) for name, values in ids_of(2).items()}
    batch["token_type_ids"] = batch["input_ids"] % 2
    result = client.infer("embedder", tensors(module, batch), model_version="1")
    assert_equal(arrays(result, NAMES), predictors["embedder"].run(batch))


def test_texts(triton, predictors):
    module, client = triton
    result = client.infer("embedder", tensors(module, {"text": texts_of(TEXTS)}), model_version="1")
    assert_equal(arrays(result, NAMES), predictors["embedder"].run(TEXTS))


def test_pairs(triton, predictors):
    module, client = triton
    second = ["who lives in Paris?", "b", "smith"]
    batch = {"text": texts_of(TEXTS), "text_pair": texts_of(second)}
    result = client.infer("sentiment", tensors(module, batch))
    expected = predictors["sentiment"].run(list(zip(TEXTS, second, strict=True)))
    assert_equal(arrays(result, ["logits"]), expected)


def test_choices(triton, predictors):
    module, client = triton
    ids = np.random.default_rng(3).integers(5, 40, (2, 3, 7))
    result = client.infer("chooser", tensors(module, {"input_ids": ids}))
    assert_equal(arrays(result, ["logits"]), predictors["chooser"].run({"input_ids": ids}))


@pytest.mark.parametrize("name", ["entities", "reader", "filler"])
def test_other_tasks(triton, predictors, name):
    module, client = triton
    expected = predictors[name].run(TEXTS)
    result = client.infer(name, tensors(module, {"text": texts_of(TEXTS)}))
    assert_equal(arrays(result, expected), expected)


def test_one_output(triton, predictors):
    module, client = triton
    wanted = [module.InferRequestedOutput("pooled_output")]
    result = client.infer("embedder", tensors(module, ids_of(4)), model_version="1", outputs=wanted)
    assert result.as_numpy("last_hidden_state") is None
    expected = predictors["embedder"].run(ids_of(4), ["pooled_output"])
    assert_equal(arrays(result, ["pooled_output"]), expected)


def test_no_outputs_named_are_all(triton, predictors):
    module, client = triton
    result = client.infer("embedder", tensors(module, ids_of(4)), model_version="1", outputs=[])
    assert_equal(arrays(result, NAMES), predictors["embedder"].run(ids_of(4)))


def test_the_id_comes_back(triton):
    module, client = triton
    result = client.infer("embedder", tensors(module, ids_of(5)), request_id="seven")
    answer = result.get_response()
    assert (answer["id"] if isinstance(answer, dict) else answer.id) == "seven"


def test_versions(triton, predictors):
    module, client = triton
    batch = ids_of(6)
    for version, name in (("1", "embedder"), ("2", "embedder 2"), ("", "embedder 2")):
        result = client.infer("embedder", tensors(module, batch), model_version=version)
        assert_equal(arrays(result, NAMES), predictors[name].run(batch))
        answer = result.get_response()
        told = answer["model_version"] if isinstance(answer, dict) else answer.model_version
        assert told == (version or "2")


def test_health_and_metadata(triton):
    module, client = triton
    as_json = {"as_json": True} if module is grpc else {}
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("embedder") and client.is_model_ready("embedder", "1")
    assert client.get_server_metadata(**as_json)["name"] == "albert_runtime"
    found = client.get_model_metadata("embedder", **as_json)
    assert found["versions"] == ["1", "2"] and found["platform"] == "albert_runtime"
    tensors = [*found["inputs"], *found["outputs"]]
    kinds = {item["name"]: item["datatype"] for item in tensors}
    assert (kinds["input_ids"], kinds["text"], kinds["pooled_output"]) == ("INT64", "BYTES", "FP32")
    shapes = {item["name"]: [int(size) for size in item["shape"]] for item in tensors}
    assert shapes["input_ids"] == [-1, -1] and shapes["text"] == [-1]
    assert shapes["last_hidden_state"] == [-1, -1, 12] and shapes["pooled_output"] == [-1, 12]


@pytest.mark.parametrize("name", ["sentiment", "entities", "reader", "filler", "chooser"])
def test_the_metadata_fit_the_answers(triton, predictors, name):
    module, client = triton
    as_json = {"as_json": True} if module is grpc else {}
    ids = np.full((2, 3, 5) if name == "chooser" else (2, 5), 7)
    result = client.infer(name, tensors(module, {"input_ids": ids}))
    for item in client.get_model_metadata(name, **as_json)["outputs"]:
        shape, values = [int(size) for size in item["shape"]], result.as_numpy(item["name"])
        assert item["datatype"] == "FP32" and values.ndim == len(shape)
        assert all(told in (-1, real) for told, real in zip(shape, values.shape, strict=True))


def test_unknown_names(triton):
    module, client = triton
    assert not client.is_model_ready("nobody")
    status = "NOT_FOUND" if module is grpc else "404"
    for options in ({"model_name": "nobody"}, {"model_name": "embedder", "model_version": "9"}):
        with pytest.raises(InferenceServerException, match=r"nobody|9") as caught:
            client.infer(inputs=tensors(module, ids_of(1)), **options)
        assert status in str(caught.value.status())
        with pytest.raises(InferenceServerException, match=r"nobody|9"):
            client.get_model_metadata(**options)
    with pytest.raises(InferenceServerException, match="nothing"):
        client.infer("embedder", tensors(module, ids_of(1)), outputs=[module.InferRequestedOutput("nothing")])


def test_what_is_not_served_is_refused(triton):
    """A client that asks for classes shall not take raw numbers for them."""
    module, client = triton
    wanted = [module.InferRequestedOutput("logits", class_count=2)]
    with pytest.raises(InferenceServerException, match="classification"):
        client.infer("sentiment", tensors(module, ids_of(1)), outputs=wanted)


def test_a_timeout_that_is_long_enough(triton, predictors):
    module, client = triton
    result = client.infer("embedder", tensors(module, ids_of(1)), model_version="1", timeout=60_000_000)
    assert_equal(arrays(result, NAMES), predictors["embedder"].run(ids_of(1)))


def test_a_timeout_that_is_too_short(triton):
    module, client = triton
    with pytest.raises(InferenceServerException, match=r"not answered within|Deadline") as caught:
        client.infer("embedder", tensors(module, ids_of(1)), timeout=1)
    assert caught.value.status() in ("503", "StatusCode.DEADLINE_EXCEEDED")


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_binary_and_json_over_http(server, predictors, binary_in, binary_out):
    with http.InferenceServerClient(server.url.removeprefix("http://")) as client:
        for batch, expected in (
            (ids_of(8), predictors["embedder"].run(ids_of(8))),
            ({"text": texts_of(TEXTS)}, predictors["embedder"].run(TEXTS)),
        ):
            wanted = [http.InferRequestedOutput(name, binary_data=binary_out) for name in NAMES]
            given = tensors(http, batch, binary=binary_in)
            result = client.infer("embedder", given, model_version="1", outputs=wanted)
            assert_equal(arrays(result, NAMES), expected)


@pytest.mark.parametrize("asked", ["gzip", "deflate"])
@pytest.mark.parametrize("answered", [None, "gzip", "deflate"])
def test_compression_over_http(server, predictors, asked, answered):
    with http.InferenceServerClient(server.url.removeprefix("http://")) as client:
        result = client.infer(
            "embedder",
            tensors(http, ids_of(9)),
            model_version="1",
            request_compression_algorithm=asked,
            response_compression_algorithm=answered,
        )
        assert_equal(arrays(result, NAMES), predictors["embedder"].run(ids_of(9)))


def test_the_health_protocol_of_grpc(server):
    """What Kubernetes' probes send, as bytes: the package of health.proto's client asks for protobuf 7."""
    with channel_to(server.grpc) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"") == b"\x08\x01"  # status: SERVING
        assert check(b"\n\x1e" + b"inference.GRPCInferenceService") == b"\x08\x01"
        with pytest.raises(RpcError) as told:
            check(b"\n\x03two")
        assert told.value.code() is StatusCode.NOT_FOUND and "'two'" in told.value.details()


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression_over_grpc(server, predictors, algorithm):
    with grpc.InferenceServerClient(server.grpc) as client:
        result = client.infer(
            "embedder", tensors(grpc, ids_of(9)), model_version="1", compression_algorithm=algorithm
        )
        assert_equal(arrays(result, NAMES), predictors["embedder"].run(ids_of(9)))


def test_values_instead_of_bytes_over_grpc(server, predictors):
    """Clients that fill ``contents``, as those of other languages do."""
    with grpc.InferenceServerClient(server.grpc) as client:
        request = grpc.service_pb2.ModelInferRequest(model_name="embedder", model_version="1")
        item = request.inputs.add(name="input_ids", datatype="INT64", shape=[2, 3])
        item.contents.int64_contents.extend([5, 6, 7, 8, 9, 10])
        answer = client._client_stub.ModelInfer(request)
        expected = predictors["embedder"].run({"input_ids": np.array([[5, 6, 7], [8, 9, 10]])})
        for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True):
            assert raw == expected[output.name].tobytes()
        request.inputs[0].CopyFrom(
            grpc.service_pb2.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[1])
        )
        request.inputs[0].contents.bytes_contents.append(b"who")
        answer = client._client_stub.ModelInfer(request)
        assert answer.raw_output_contents[0] == predictors["embedder"].run("who")[NAMES[0]].tobytes()


def test_the_asynchronous_clients(server, predictors):
    async def ask(module, base, address):
        async with module.InferenceServerClient(address) as client:
            assert await client.is_server_ready()
            asked = [
                client.infer("embedder", tensors(base, ids_of(seed)), model_version="1") for seed in range(20)
            ]
            return await asyncio.gather(*asked)

    for module, base, address in (
        (http_aio, http, server.url.removeprefix("http://")),
        (grpc_aio, grpc, server.grpc),
    ):
        for seed, result in enumerate(asyncio.run(ask(module, base, address))):
            assert_equal(arrays(result, NAMES), predictors["embedder"].run(ids_of(seed)))


def test_many_requests_of_one_client(server, predictors):
    """``async_infer`` of the HTTP client."""
    with http.InferenceServerClient(server.url.removeprefix("http://"), concurrency=4) as client:
        asked = [
            client.async_infer("embedder", tensors(http, ids_of(s)), model_version="1") for s in range(8)
        ]
        for seed, one in enumerate(asked):
            assert_equal(arrays(one.get_result(), NAMES), predictors["embedder"].run(ids_of(seed)))


def test_many_callers_get_their_own_bits(server, predictors):
    """Joined with requests of all lengths, of both protocols, the bits are those of ``run``."""
    sizes = np.random.default_rng(0).integers(1, [7, 60], (160, 2))
    asked = [ids_of(seed, int(rows), int(width)) for seed, (rows, width) in enumerate(sizes)]
    names = ["embedder" if index % 3 else "sentiment" for index in range(len(asked))]
    expected = [predictors[name].run(batch) for name, batch in zip(names, asked, strict=True)]

    def ask(part):
        kind = "http" if part % 2 else "grpc"
        module = KINDS[kind]
        address = server.url.removeprefix("http://") if kind == "http" else server.grpc
        answers = {}
        with module.InferenceServerClient(address) as client:
            for index in range(part, len(asked), 16):
                given = tensors(module, asked[index])
                result = client.infer(names[index], given, model_version="1")
                answers[index] = arrays(result, expected[index])
        return answers

    before = server.metric("albert_compute_seconds_count", "embedder")
    with ThreadPoolExecutor(16) as pool:
        parts = list(pool.map(ask, range(16)))
    for answers in parts:
        for index, answer in answers.items():
            assert_equal(answer, expected[index])
    assert sum(map(len, parts)) == len(asked)
    assert server.metric("albert_compute_seconds_count", "embedder") > before
