"""A checkpoint that TensorFlow wrote, in two shards, and transformers' answers to it (recorded by
tools/make_tensorflow_checkpoint.py); with TensorFlow installed, one that it writes now."""

import json

import numpy as np
import pytest

from albert_export.checkpoint.stored_tensor import StoredTensor
from albert_export.checkpoint.weight_files import read_tensors, weight_files
from albert_runtime.artifact import tasks

from ...albert_float64 import answers
from ..test_huggingface import difference
from .models import CONFIG, google, slots
from .test_google import read

NAME = "model.ckpt-7"


@pytest.fixture(name="folder")
def recorded(pytestconfig):
    """The folder that TensorFlow 2.21 and transformers 4.57.6 wrote."""
    return pytestconfig.rootpath / "tests" / "data" / "tensorflow" / "google"


def test_every_variable(folder):
    wanted = slots(google(CONFIG, "predictions", "seq_relationship", seed=5))
    del wanted["beta1_power"]
    wanted["bert/pooler/dense/kernel"] = wanted["bert/pooler/dense/kernel"].astype(np.float16)
    # The nearest bfloat16 of k / 7: eight bits of it.
    exact = (np.arange(24) / 7).astype(np.float32).view(np.uint32)
    rounded = (exact + 0x7FFF + (exact >> 16 & 1)) & 0xFFFF0000
    wanted["bert/pooler/dense/bias/adam_m"] = rounded.astype(np.uint32).view(np.float32)
    files = weight_files(folder / f"{NAME}.index")
    assert [path.name for path in files] == [
        f"{NAME}.index",
        *(f"{NAME}.data-0000{n}-of-00002" for n in (0, 1)),
    ]
    found = read_tensors(files)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert isinstance(found[name], StoredTensor)
        np.testing.assert_array_equal(found[name].float32(), np.float32(value))
    assert found["bert/pooler/dense/kernel"].dtype == "float16"
    assert found["bert/pooler/dense/bias/adam_m"].dtype == "bfloat16"
    assert found["global_step"].dtype == "int64"


def test_answers(folder):
    config, head, tensors, left_out = read(folder)
    assert head.task == tasks.PRETRAINING and not left_out
    with np.load(folder / "answers.npz") as file:
        case = {name: file[name] for name in file.files}
    inputs = {name: case.pop(name) for name in ("input_ids", "attention_mask", "token_type_ids")}
    ours = answers(config, head, tensors, inputs)
    assert difference(ours, case, inputs["attention_mask"]) < 1e-9


@pytest.mark.slow
def test_what_tensorflow_writes_now(tmp_path):
    tensorflow = pytest.importorskip("tensorflow")
    tensors = slots(google(CONFIG, "classifier"))
    v1 = tensorflow.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        variables = [v1.get_variable(name, initializer=value) for name, value in tensors.items()]
        session.run(v1.global_variables_initializer())
        v1.train.Saver(variables).save(session, str(tmp_path / "model.ckpt"), global_step=7)
    (tmp_path / "albert_config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    found = read_tensors(weight_files(tmp_path / f"{NAME}.index"))
    for name, value in tensors.items():
        np.testing.assert_array_equal(found[name].float32(), np.float32(value))
    assert read(tmp_path)[1].task == tasks.SEQUENCE_CLASSIFICATION
