"""Large weights in a file of their own are read where they lie."""

import tracemalloc

import numpy as np
import onnx

from albert_export.programs.albert import take_albert
from albert_export.programs.program_file import read_program

from .spellings.nodes import CONFIG, HIDDEN
from .spellings.program import Program

WORDS = "embeddings.word_embeddings.weight"
ROWS, COLUMNS = 50_000, 1000


def written(folder):
    """A program whose word table, 200 MB, is external data."""
    program = Program({})
    wide = {
        "embeddings.position_embeddings.weight": (CONFIG.max_position_embeddings, COLUMNS),
        "embeddings.token_type_embeddings.weight": (CONFIG.type_vocab_size, COLUMNS),
        "embeddings.layer_norm.weight": (COLUMNS,),
        "embeddings.layer_norm.bias": (COLUMNS,),
        "encoder.embedding_hidden_mapping_in.weight": (COLUMNS, HIDDEN),
    }
    program.tensors |= {name: np.full(shape, 0.5, np.float32) for name, shape in wide.items()}
    model = program.model()
    table = next(one for one in model.graph.initializer if one.name.startswith(WORDS))
    table.ClearField("raw_data")
    table.dims[:] = [ROWS, COLUMNS]
    table.data_location = onnx.TensorProto.EXTERNAL
    table.external_data.add(key="location", value="words")
    with (folder / "words").open("wb") as file:
        file.truncate(ROWS * COLUMNS * 4)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def test_a_program_with_200_mb_of_weights(tmp_path):
    path = written(tmp_path)
    tracemalloc.start()
    try:
        albert = take_albert(read_program(path), None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert albert.tensors[WORDS].nbytes == 200_000_000
    assert isinstance(albert.tensors[WORDS], np.memmap)
    assert peak < 80_000_000  # of which the test for numbers that are not finite has 50 MB, a byte for each
