"""Hostile framing of tensors: the answer says what is wrong with it, and the next one is right."""

import asyncio
import json
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from .conftest import assert_equal
from .server import INFER, PATIENCE

LENGTH = "inference-header-content-length"
IDS = np.array([[5, 6, 7], [8, 9, 10]])
REFUSED = (400, 404, 413, 422)
SETTINGS = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def app(make_app):
    return make_app("embedder", max_body_bytes=100_000)


def frame(asked, *tensors):
    head = json.dumps(asked).encode()
    return head + b"".join(tensors), {LENGTH: str(len(head))}


def ids_frame():
    raw = IDS.astype("<i8").tobytes()
    item = {"name": "input_ids", "shape": [2, 3], "datatype": "INT64"}
    return frame({"inputs": [{**item, "parameters": {"binary_data_size": len(raw)}}]}, raw)


def texts_frame(*texts):
    raw = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    item = {"name": "text", "shape": [len(texts)], "datatype": "BYTES"}
    return frame({"inputs": [{**item, "parameters": {"binary_data_size": len(raw)}}]}, raw)


def right(answer, expected):
    outputs = {
        item["name"]: np.float32(item["data"]).reshape(item["shape"]) for item in answer.json()["outputs"]
    }
    assert answer.status_code == 200
    assert_equal(outputs, expected)


def check(app, predictors, body, headers):
    """Refused or answered, never a 5xx; and the next request is right."""
    answer = app.send("POST", INFER, content=body, headers=headers)
    assert answer.status_code in (200, *REFUSED), answer.text
    if answer.status_code != 200:
        assert answer.json()["error"] and len(answer.content) < 2000
    body, headers = ids_frame()
    right(
        app.send("POST", INFER, content=body, headers=headers), predictors["embedder"].run({"input_ids": IDS})
    )


def test_the_valid_frames_are_answered(app, predictors):
    """So that what is made of them below is refused for its faults."""
    body, headers = ids_frame()
    right(
        app.send("POST", INFER, content=body, headers=headers), predictors["embedder"].run({"input_ids": IDS})
    )
    body, headers = texts_frame(b"who", b"Anna Smith")
    answer = app.send("POST", INFER, content=body, headers=headers)
    right(answer, predictors["embedder"].run(["who", "Anna Smith"]))


@settings(SETTINGS, max_examples=150)
@given(data=st.data(), texts=st.booleans())
def test_mutated_bodies(app, predictors, data, texts):
    body, headers = texts_frame(b"who", "\u00e9t\u00e9".encode()) if texts else ids_frame()
    changed = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(changed)))
        what = data.draw(st.sampled_from(["flip", "cut", "insert", "repeat"]))
        if what == "flip" and place < len(changed):
            changed[place] ^= data.draw(st.integers(1, 255))
        elif what == "cut":
            del changed[place : place + data.draw(st.integers(1, 20))]
        elif what == "insert":
            changed[place:place] = data.draw(st.binary(min_size=1, max_size=20))
        else:
            changed[place:place] = changed[place : place + data.draw(st.integers(1, 40))]
    check(app, predictors, bytes(changed), headers)


@settings(SETTINGS, max_examples=60)
@given(
    length=st.integers(-5, 400).map(str)
    | st.text(st.characters(max_codepoint=255, categories=["N", "L", "P"]))
)
@example("9" * 5000)
@example("\u00b2")
@example("0x10")
@example("1_0")
@example("+5")
@example("")
def test_any_header_length(app, predictors, length):
    body, _ = ids_frame()
    check(app, predictors, body, {LENGTH: length.encode("latin-1")})


names = st.sampled_from(["input_ids", "attention_mask", "token_type_ids", "text", "text_pair", "other"])
sizes = st.sampled_from(
    [-(2**63), -1, 0, 1, 2, 3, 6, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, 2**64, 1.5, "3", None]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=8,
)
inputs = st.fixed_dictionaries(
    {
        "name": st.sampled_from(
            ["input_ids", "attention_mask", "token_type_ids", "text", "text_pair", "other"]
        ),
        "shape": st.lists(sizes, max_size=4),
        "datatype": st.sampled_from(["INT64", "INT32", "FP32", "BYTES", "BOOL", "FP64", "", "int64"]),
    },
    optional={
        "data": st.lists(st.integers(-1, 60), max_size=7) | st.lists(st.text(), max_size=3) | values,
        "parameters": st.dictionaries(st.just("binary_data_size"), sizes | values, max_size=1),
    },
)


@settings(SETTINGS, max_examples=250)
@given(
    items=st.lists(inputs, max_size=3),
    raw=st.binary(max_size=60),
    parameters=st.dictionaries(st.sampled_from(["timeout", "binary_data_output"]), values, max_size=2),
    outputs=st.none() | st.lists(st.fixed_dictionaries({"name": st.text(max_size=4)}), max_size=2) | values,
)
@example([{"name": "input_ids", "shape": [2**31, 2**31], "datatype": "INT64", "data": []}], b"", {}, None)
@example([{"name": "input_ids", "shape": [0, 2**31, 2**31], "datatype": "INT64", "data": []}], b"", {}, None)
@example([{"name": "input_ids", "shape": [1, 0], "datatype": "INT64", "data": []}], b"", {}, None)
@example([{"name": "input_ids", "shape": [1], "datatype": "INT64", "data": [5]}], b"", {}, None)
@example([{"name": "input_ids", "shape": [1, 1], "datatype": "INT32", "data": [2**40]}], b"", {}, None)
@example([{"name": "input_ids", "shape": [1, 1], "datatype": "INT64", "data": [2**63]}], b"", {}, None)
@example([{"name": "input_ids", "shape": [1, 2], "datatype": "INT64", "data": [2**63, -1]}], b"", {}, None)
@example([{"name": "input_ids", "shape": [1, 1], "datatype": "FP32", "data": [1e300]}], b"", {}, None)
@example([{"name": "input_ids", "shape": [1, 2], "datatype": "INT64", "data": [[1], [2, 3]]}], b"", {}, None)
@example([{"name": "input_ids", "shape": [1, 1], "datatype": "INT64", "data": [5]}] * 2, b"", {}, None)
@example([{"name": "text", "shape": [0], "datatype": "BYTES", "data": []}], b"", {}, None)
@example([{"name": "text", "shape": [1], "datatype": "BYTES", "data": [[["a"]]]}], b"", {}, None)
def test_any_tensors(app, predictors, items, raw, parameters, outputs):
    asked = {"inputs": items, "parameters": parameters}
    if outputs is not None:
        asked["outputs"] = outputs
    body, headers = frame(asked, raw)
    check(app, predictors, body, headers if raw else {})


@pytest.mark.parametrize("depth", [30, 70, 900, 40_000])
@pytest.mark.parametrize("place", ["data", "parameters", "whole"])
def test_deep_json(app, predictors, depth, place):
    nest = b"[" * depth + b"5" + b"]" * depth
    item = b'{"inputs": [{"name": "input_ids", "shape": [1, 1], "datatype": "INT64", "data": %s}]%s}'
    body = {
        "data": item % (nest, b""),
        "parameters": item % (b"[5]", b', "parameters": {"x": ' + nest + b"}"),
        "whole": nest,
    }[place]
    check(app, predictors, body, {})


@pytest.mark.parametrize(
    ("raw", "needle"),
    [
        (b"\x03\x00\x00", "in the middle of the length"),
        (b"\x04\x00\x00\x00who", "4 bytes, of which only 3 are there"),
        (b"\xff\xff\xff\xffwho", "4294967295 bytes"),
        (b"\x03\x00\x00\x00\xff\xfe\xfd", "not UTF-8"),
        (b"\x03\x00\x00\x00\xed\xa0\x80", "not UTF-8"),  # a surrogate
        (b"\x03\x00\x00\x00who" * 2, "2 strings; its shape needs 1"),
        (b"", "0 strings"),
    ],
)
def test_strings_that_are_none(app, raw, needle):
    item = {"name": "text", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
    body, headers = frame({"inputs": [item]}, raw)
    answer = app.send("POST", INFER, content=body, headers=headers)
    assert answer.status_code == 400 and needle in answer.json()["error"]


@pytest.mark.parametrize(
    ("change", "needle"),
    [
        ({"datatype": "FP16"}, "FP16"),
        ({"shape": [2, 4]}, "48 bytes; its shape and datatype need 64"),
        ({"shape": [-2, -3]}, "shape"),
        ({"parameters": {"binary_data_size": 47}}, "47 bytes"),
        ({"parameters": {"binary_data_size": 49}}, "48 bytes are left"),
        ({"parameters": {"binary_data_size": True}}, "True"),
        ({"data": [1]}, "both data"),
        ({"parameters": {}}, "neither data"),
    ],
)
def test_one_fault_is_named(app, change, needle):
    item = {"name": "input_ids", "shape": [2, 3], "datatype": "INT64", "parameters": {"binary_data_size": 48}}
    body, headers = frame({"inputs": [{**item, **change}]}, IDS.astype("<i8").tobytes())
    answer = app.send("POST", INFER, content=body, headers=headers)
    assert answer.status_code == 400 and needle in answer.json()["error"], answer.text


# Over a socket


@settings(SETTINGS, max_examples=40)
@given(raw=st.binary(max_size=400), cut=st.integers(0, 200), whole=st.booleans())
@example(b"", 60, True)
def test_any_bytes_on_a_connection(server, predictors, raw, cut, whole):
    """Parts of a request, and no request at all, end in an answer or a closed connection."""
    body, headers = ids_frame()
    lines = [
        f"POST {INFER} HTTP/1.1",
        "host: x",
        f"{LENGTH}: {headers[LENGTH]}",
        f"content-length: {len(body)}",
    ]
    request = "\r\n".join([*lines, "", ""]).encode() + body
    sent = request[:cut] + raw + (request[cut:] if whole else b"")
    host, port = server.url.removeprefix("http://").split(":")

    async def talk():
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        writer.write_eof()
        try:
            return await asyncio.wait_for(reader.read(), PATIENCE)
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    answer = asyncio.run(talk())
    assert b" 500 " not in answer[:20], answer
    versioned = INFER.replace("/infer", "/versions/1/infer")
    answer = server.http.post(versioned, content=body, headers=headers)
    right(answer, predictors["embedder"].run({"input_ids": IDS}))


# gRPC

grpc = pytest.importorskip("grpc")
REFUSALS = ("INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED")


@pytest.fixture(scope="module")
def infer(server):
    """infer(bytes) -> the answer, or the error's (status, details)."""
    from albert_runtime.serve.grpc.messages import MESSAGES, SERVICE

    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer")

        def ask(body):
            try:
                return MESSAGES["ModelInferResponse"].FromString(call(body, timeout=PATIENCE))
            except grpc.RpcError as error:
                return error.code().name, error.details()

        yield ask


def grpc_request(**fields):
    from albert_runtime.serve.grpc.messages import MESSAGES

    return MESSAGES["ModelInferRequest"](model_name="embedder", model_version="1", **fields)


def grpc_check(infer, predictors, body):
    answer = infer(body)
    if isinstance(answer, tuple):
        assert answer[0] in REFUSALS and answer[1], answer
    good = grpc_request(inputs=[{"name": "input_ids", "datatype": "INT64", "shape": [2, 3]}])
    good.raw_input_contents.append(IDS.astype("<i8").tobytes())
    answer = infer(good.SerializeToString())
    expected = predictors["embedder"].run({"input_ids": IDS})
    for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True):
        assert raw == expected[output.name].tobytes()


grpc_sizes = st.sampled_from([-(2**63), -1, 0, 1, 2, 3, 2**31, 2**32, 2**62, 2**63 - 1])
grpc_inputs = st.fixed_dictionaries(
    {
        "name": names,
        "datatype": st.sampled_from(["INT64", "INT32", "FP32", "BYTES", "BOOL", ""]),
        "shape": st.lists(grpc_sizes, max_size=4),
    },
    optional={
        "contents": st.fixed_dictionaries(
            {},
            optional={
                "int64_contents": st.lists(st.integers(-1, 60), max_size=6),
                "int_contents": st.lists(st.integers(-1, 60), max_size=6),
                "fp32_contents": st.lists(st.floats(width=32), max_size=3),
                "bytes_contents": st.lists(st.binary(max_size=5), max_size=3),
            },
        )
    },
)


ONE = {"name": "input_ids", "datatype": "INT64", "shape": [1, 1], "contents": {"int64_contents": [5]}}


@settings(SETTINGS, max_examples=150)
@given(items=st.lists(grpc_inputs, max_size=3), raw=st.lists(st.binary(max_size=50), max_size=3))
@example([{"name": "input_ids", "datatype": "INT64", "shape": [0, 2**62, 2**62]}], [b""])
@example([{"name": "input_ids", "datatype": "INT64", "shape": [2**63 - 1, 2**63 - 1]}], [b""])
@example([{"name": "input_ids", "datatype": "INT64", "shape": [1]}], [b"\x05" + b"\0" * 7])
@example([{"name": "text", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"\xff"]}}], [])
@example(
    [{"name": "input_ids", "datatype": "INT64", "shape": [1, 1], "contents": {"int64_contents": [5]}}] * 2, []
)
@example([{"name": "input_ids", "datatype": "INT64", "shape": [1, 1]}], [b"", b""])
def test_any_tensors_over_grpc(infer, predictors, items, raw):
    grpc_check(infer, predictors, grpc_request(inputs=items, raw_input_contents=raw).SerializeToString())


@settings(SETTINGS, max_examples=60)
@given(data=st.data())
def test_mutated_messages_over_grpc(infer, predictors, data):
    request = grpc_request(inputs=[{"name": "input_ids", "datatype": "INT64", "shape": [2, 3]}], id="i")
    request.raw_input_contents.append(IDS.astype("<i8").tobytes())
    body = bytearray(request.SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place] = data.draw(st.integers(0, 255))
    grpc_check(infer, predictors, bytes(body))


@settings(SETTINGS, max_examples=30)
@given(body=st.binary(max_size=100))
def test_no_message_at_all_over_grpc(infer, predictors, body):
    grpc_check(infer, predictors, body)


@pytest.mark.parametrize("microseconds", [-1, -(2**63)])
def test_a_timeout_before_now_over_grpc(infer, microseconds):
    request = grpc_request(inputs=[{"name": "text", "datatype": "BYTES", "shape": [1]}])
    request.inputs[0].contents.bytes_contents.append(b"who")
    request.parameters["timeout"].int64_param = microseconds
    assert infer(request.SerializeToString())[0] == "INVALID_ARGUMENT"


def test_the_server_is_still_whole(server):
    """After all of this module: no line of its log is an error, nothing is in flight."""
    assert not [line for line in server.lines() if line["level"] == "error"]
    assert server.metric("albert_in_flight_requests") == 0
    assert server.metric("albert_queue_depth", "embedder") == 0
