"""What the generators share: two batches, a program's own answers, and the weights it was made from."""

import json
from pathlib import Path

import numpy as np
import onnxruntime

# The tiny model of every program: no two sizes are equal, so a mixed-up axis shows.
SIZES = {
    "vocab_size": 97,
    "embedding_size": 8,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
}
FULL, PADDED = [7, 7], [9, 4, 6]  # tokens per row of the two batches


def batch(
    lengths: list[int], columns: int, *, choices: int = 0, vocab: int = SIZES["vocab_size"], seed: int = 0
):
    """One batch of rows with `lengths` tokens, padded with id 0 to `columns`, as int64 [rows, columns].

    With choices, each row becomes [choices, columns] of the same length.
    Segment ids are 0, then 1 from the middle on.
    """
    rng = np.random.default_rng(seed)
    shape = (len(lengths), choices, columns) if choices else (len(lengths), columns)
    kept = np.arange(columns) < np.reshape(lengths, (-1,) + (1,) * (len(shape) - 1))
    mask = np.broadcast_to(kept, shape).astype(np.int64)
    ids = rng.integers(5, vocab, shape) * mask
    types = (np.arange(columns) >= np.reshape(lengths, (-1,) + (1,) * (len(shape) - 1)) // 2).astype(np.int64)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.broadcast_to(types, shape) * mask}


def batches(
    *, choices: int = 0, fixed: tuple[int, int] | None = None, vocab: int = SIZES["vocab_size"]
) -> list[dict]:
    """A full batch [2, 7] and a padded one [3, 9]; for a program of one fixed shape, both have that shape."""
    if fixed:
        rows, columns = fixed
        return [
            batch([length] * rows, columns, vocab=vocab, seed=i)
            for i, length in enumerate((columns, columns - 5))
        ]
    return [
        batch(FULL, 7, choices=choices, vocab=vocab),
        batch(PADDED, 9, choices=choices, vocab=vocab, seed=1),
    ]


def save(path: Path, feeds: list[dict], answers: list[dict]) -> None:
    """Writes io.npz: in/NAME/I and out/NAME/I for batch I."""
    arrays = {f"in/{name}/{i}": value for i, feed in enumerate(feeds) for name, value in feed.items()}
    arrays |= {f"out/{name}/{i}": value for i, answer in enumerate(answers) for name, value in answer.items()}
    np.savez_compressed(path, **arrays)


def answer_with_onnxruntime(file: Path, wanted: list[dict]) -> None:
    """Runs the ONNX file on the batches and writes io.npz beside it; inputs of other names go by place."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    inputs, outputs = session.get_inputs(), [value.name for value in session.get_outputs()]
    types = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(float)": np.float32}
    feeds = []
    for values in wanted:
        named = {
            value.name: values.get(value.name, list(values.values())[i]) for i, value in enumerate(inputs)
        }
        feeds.append(
            {value.name: np.ascontiguousarray(named[value.name], types[value.type]) for value in inputs}
        )
    answers = [dict(zip(outputs, session.run(None, feed), strict=True)) for feed in feeds]
    assert all(np.isfinite(value).all() for answer in answers for value in answer.values()), file
    save(file.parent / "io.npz", feeds, answers)


def save_source(folder: Path, config: dict, state: dict[str, np.ndarray]) -> None:
    """Writes source.json and source.npz: configuration and state dict of the exported model."""
    (folder / "source.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    np.savez_compressed(folder / "source.npz", **state)
