"""PaddleNLP folders in shards: .pdparams or .safetensors under an index, as its save_pretrained writes."""

import json
import pickle

import numpy as np
import pytest

from albert_export.checkpoint.config_json import PADDLENLP
from albert_export.checkpoint.folder import library_of_weights, read_folder
from albert_export.checkpoint.weight_files import WEIGHT_NAMES
from albert_export.errors import ExportError
from albert_export.sources import checkpoint_source
from albert_runtime.artifact import tasks
from albert_runtime.errors import ArtifactError


def write_pdparams(path, tensors):
    """As paddle.save writes a state dict: with an entry of its own, which so stands in every shard."""
    names = {name: f"parameter_{index}" for index, name in enumerate(tensors)}
    path.write_bytes(pickle.dumps({**tensors, "StructuredToParameterName@@": names}, protocol=4))


def write_safetensors(path, tensors):
    from safetensors.numpy import save_file

    save_file(tensors, path, {"format": "np"})


WRITERS = {"model_state.pdparams": write_pdparams, "model.safetensors": write_safetensors}


def write_shards(folder, tensors, name, count=3):
    """The tensors in ``count`` shards and the index over them; returns the index's path."""
    stem, suffix = name.split(".")
    weight_map = {}
    for number, names in enumerate(np.array_split(list(tensors), count), 1):
        shard = f"{stem}-{number:05d}-of-{count:05d}.{suffix}"
        WRITERS[name](folder / shard, {str(key): tensors[key] for key in names})
        weight_map |= dict.fromkeys(map(str, names), shard)
    index = folder / f"{name}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index


def load(checkpoint):
    plan = checkpoint_source(checkpoint.description, checkpoint.weights_file(), tasks.MODEL, task_given=False)
    tensors, left_out = plan.weights.load(plan.config, plan.head)
    assert left_out == []
    return plan, dict(tensors)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("mark", [{}, {"paddlenlp_version": None}, {"transformers_version": "4.57.0"}])
def test_shards(tmp_path, write_checkpoint, tiny, tiny_tensors, name, mark):
    write_checkpoint(tmp_path, tiny, **mark)
    index = write_shards(tmp_path, tiny_tensors, name)
    assert index.name in WEIGHT_NAMES
    checkpoint = read_folder(tmp_path)
    assert (checkpoint.weights, checkpoint.description.library) == (index, PADDLENLP)
    plan, tensors = load(checkpoint)
    assert plan.config == tiny
    assert plan.weights.origin("")["files"] == [file.name for file in sorted(tmp_path.glob("*-of-*"))]
    assert tensors.keys() == tiny_tensors.keys()
    for key, value in tiny_tensors.items():
        np.testing.assert_array_equal(tensors[key], value)


@pytest.mark.parametrize("name", WRITERS)
def test_shards_that_are_not_there_or_there_twice(tmp_path, write_checkpoint, tiny, tiny_tensors, name):
    write_checkpoint(tmp_path, tiny)
    index = write_shards(tmp_path, tiny_tensors, name)
    first, second, _ = sorted(tmp_path.glob("*-of-*"))
    first.unlink()
    with pytest.raises(ExportError, match=rf"{index.name} names .*00001-of-.*, which is not there"):
        read_folder(tmp_path)
    first.write_bytes(second.read_bytes())
    with pytest.raises(ArtifactError, match="which another file of the checkpoint holds too"):
        load(read_folder(tmp_path))


def test_an_index_of_pdparams_names_nothing_else(tmp_path, write_checkpoint, tiny, tiny_tensors):
    write_checkpoint(tmp_path, tiny)
    index = write_shards(tmp_path, tiny_tensors, "model_state.pdparams")
    index.write_text(json.dumps({"weight_map": {"a": "pytorch_model.bin"}}))
    with pytest.raises(ArtifactError, match=r"which is no plain name of a \.pdparams file"):
        read_folder(tmp_path)


def test_an_index_given_as_the_weights(tmp_path, tiny_tensors):
    index = write_shards(tmp_path, tiny_tensors, "model_state.pdparams")
    assert library_of_weights(index) == PADDLENLP


def test_with_both_libraries_weights_the_config_decides(tmp_path, write_checkpoint, tiny, tiny_tensors):
    """A folder that holds torch's weights, too: its config's own mark says whose model it is."""
    index = write_shards(tmp_path, tiny_tensors, "model_state.pdparams")
    (tmp_path / "pytorch_model.bin").touch()
    for mark, weights in (
        ("paddlenlp_version", index),
        ("transformers_version", tmp_path / "pytorch_model.bin"),
    ):
        write_checkpoint(tmp_path, tiny, **{mark: "1"})
        assert read_folder(tmp_path).weights == weights


def test_other_entries_of_shards_are_accounted_for(tmp_path, write_checkpoint, tiny, tiny_tensors):
    """Only Paddle's own entry may stand in a shard beside tensors, in however many of them."""
    write_checkpoint(tmp_path, tiny)
    write_shards(tmp_path, tiny_tensors, "model_state.pdparams")
    for shard in tmp_path.glob("*-of-*"):
        shard.write_bytes(pickle.dumps({**pickle.loads(shard.read_bytes()), "other": {}}, protocol=4))
    with pytest.raises(ExportError, match=r"unexpected: other$"):
        load(read_folder(tmp_path))
