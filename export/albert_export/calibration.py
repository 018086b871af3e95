"""The calibration text, on which int8 measures the ranges of activations, as rows of token ids."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.artifact.tasks import INPUTS

from .errors import ExportError
from .verify import ENCODER, Batch, make_batches

# The one that suits the model's vocabulary is used.
SHIPPED = ("calibration-en.txt", "calibration-zh.txt")
MAX_UNKNOWN = 0.05
# With more text the greatest values hardly change.
MAX_TOKENS = 4096
# Tokens per batch, padding included: larger batches do not fit in the processor's cache.
_TOKENS_PER_BATCH = 512
_MAX_BYTES = 16 * 2**20
_MAX_TOKENS_PER_ROW = 128


@dataclass(frozen=True)
class Calibration:
    """Rows to run, each a batch of one, int64 [1, T], and their record in the manifest."""

    rows: list[Batch]
    record: dict[str, object]


def calibrate_on(
    file: Path | None, tokenizer_json: bytes | None, config: AlbertConfig, *, random: bool
) -> Calibration:
    """Rows of the user's text or, without one, of a shipped text that suits the vocabulary.

    A model with random weights and no matching tokenizer gets random ids. Raises ExportError for a text that
    is unreadable, empty or unknown to the vocabulary, and for a checkpoint without a tokenizer.
    """
    if tokenizer_json is None:
        if random and file is None:
            return _random_rows(config)
        raise ExportError(
            "--int8 is calibrated on text, and there is no tokenizer; put tokenizer.json, spiece.model or "
            "vocab.txt beside the weights"
        )
    if file is not None:
        return _encode(file.name, _read(file), tokenizer_json, config)
    data = resources.files(__package__).joinpath("data")
    found = [
        _encode(name, data.joinpath(name).read_text("utf-8"), tokenizer_json, config, refuse=False)
        for name in SHIPPED
    ]
    best = min(found, key=lambda one: float(str(one.record["unknown"])))
    _refuse_unknown(best.record)
    return best


def batches_of(rows: Sequence[Mapping[str, np.ndarray]]) -> list[Batch]:
    """The rows, int64 [1, T] each, in padded batches [B, T] of rows of similar length."""
    batches: list[list[Mapping[str, np.ndarray]]] = []
    for row in sorted(rows, key=lambda one: -one["input_ids"].size):
        if not batches or (len(batches[-1]) + 1) * batches[-1][0]["input_ids"].size > _TOKENS_PER_BATCH:
            batches.append([])
        batches[-1].append(row)
    return [{name: _padded([row[name][0] for row in batch]) for name in INPUTS} for batch in batches]


def _padded(rows: Sequence[np.ndarray]) -> np.ndarray:
    """[B, T], T the length of the first and longest row; shorter rows are padded with zeros."""
    values = np.zeros((len(rows), rows[0].size), np.int64)
    for target, row in zip(values, rows, strict=True):
        target[: row.size] = row
    return values


def _read(file: Path) -> str:
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise ExportError(
                f"--calibration {file} is larger than {_MAX_BYTES >> 20} MiB; a few pages of text suffice"
            )
        return file.read_text("utf-8")
    except OSError as error:
        raise ExportError(f"--calibration {file} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise ExportError(f"--calibration {file} is no UTF-8 text (byte {error.start}); convert it") from None


def _encode(
    name: str, text: str, tokenizer_json: bytes, config: AlbertConfig, *, refuse: bool = True
) -> Calibration:
    """The lines of a text, one row each, until MAX_TOKENS are reached."""
    from tokenizers import Tokenizer  # noqa: PLC0415  (not needed in other precisions)

    tokenizer = Tokenizer.from_str(tokenizer_json.decode("utf-8"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(min(_MAX_TOKENS_PER_ROW, config.max_position_embeddings))
    unknown = _unknown_id(json.loads(tokenizer_json)["model"], tokenizer)
    rows: list[Batch] = []
    tokens = strange = 0
    for encoding in _encodings(tokenizer, text):
        rows.append(_row(encoding.ids, encoding.type_ids))
        words = [
            token
            for token, special in zip(encoding.ids, encoding.special_tokens_mask, strict=True)
            if not special
        ]
        tokens += len(words)
        strange += words.count(unknown)
        if tokens >= MAX_TOKENS:
            break
    if not tokens:
        raise ExportError(f"the calibration text {name} has no words; give one with --calibration FILE")
    record = {"text": name, "rows": len(rows), "tokens": tokens, "unknown": round(strange / tokens, 4)}
    if refuse:
        _refuse_unknown(record)
    return Calibration(rows, record)


def _encodings(tokenizer: Any, text: str) -> Iterator[Any]:
    return (tokenizer.encode(line) for line in text.splitlines() if line.strip())


def _unknown_id(model: dict[str, Any], tokenizer: Any) -> int | None:
    """The id of the unknown token: unigram models state it, others name the token or have none."""
    if isinstance(model.get("unk_id"), int):
        return int(model["unk_id"])
    token = model.get("unk_token")
    return None if token is None else tokenizer.token_to_id(token)


def _refuse_unknown(record: dict[str, object]) -> None:
    share = float(str(record["unknown"]))
    if share > MAX_UNKNOWN:
        raise ExportError(
            f"{share:.0%} of the tokens of the calibration text {record['text']} are unknown to the "
            f"vocabulary, more than {MAX_UNKNOWN:.0%}; give text of the model's language with "
            "--calibration FILE"
        )


def _random_rows(config: AlbertConfig) -> Calibration:
    rows = []
    for batch in make_batches(config, ENCODER):
        for ids, mask, types in zip(*(batch[name] for name in INPUTS), strict=True):
            count = int(mask.sum())
            rows.append(_row(ids[:count].tolist(), types[:count].tolist()))
    tokens = sum(row["input_ids"].size for row in rows)
    return Calibration(rows, {"text": "random ids", "rows": len(rows), "tokens": tokens, "unknown": 0.0})


def _row(ids: list[int], types: list[int]) -> Batch:
    columns = (ids, [1] * len(ids), types)
    return {name: np.array([values], np.int64) for name, values in zip(INPUTS, columns, strict=True)}
