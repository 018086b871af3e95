"""A small artifact made by hand: real weights and manifest, stand-ins for the program and the graph."""

import ctypes
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from albert_export.proof import make_proof
from albert_runtime.artifact.config import AlbertConfig
from albert_runtime.artifact.manifest import FileRecord, Manifest
from albert_runtime.artifact.sentence import SentenceHead, SentenceTexts
from albert_runtime.artifact.tasks import INPUTS, LABELLED, Head
from albert_runtime.artifact.tensor_table import TensorRecord, tensor_shapes
from albert_runtime.backends import nvidia
from albert_runtime.files import sha256_file

from .backends.fake_gpu import Driver, Runtime

TINY = AlbertConfig(
    vocab_size=50,
    embedding_size=8,
    hidden_size=12,
    num_hidden_layers=3,
    num_hidden_groups=1,
    inner_group_num=1,
    num_attention_heads=2,
    intermediate_size=20,
    hidden_act="gelu_new",
    max_position_embeddings=10,
    type_vocab_size=2,
    layer_norm_eps=1e-12,
    pad_token_id=0,
    padding_idx=0,
    add_pooling_layer=True,
    initializer_range=0.02,
)

MakeArtifact = Callable[..., Path]


def write_weights(path: Path, shapes: dict[str, tuple[int, ...]], seed: int) -> list[TensorRecord]:
    """Random tensors one after another, each behind a header, at odd offsets as Paddle has them."""
    generator = np.random.default_rng(seed)
    records = []
    with path.open("wb") as file:
        for name, shape in shapes.items():
            data = generator.normal(0, 0.3, shape).astype(np.float32)
            file.write(b"header!" if file.tell() % 2 == 0 else b"header")
            records.append(TensorRecord(name, "float32", shape, file.tell(), data.nbytes))
            file.write(data.tobytes())
    return records


def write_artifact(
    folder: Path,
    stem: str = "tiny",
    *,
    seed: int = 0,
    tokenizer: Path | None = None,
    task: str = "model",
    labels: Sequence[str] = (),
    tied_decoder: bool = True,
    max_length: int | None = None,
    activation: str | None = None,
    sentence: SentenceHead | None = None,
    sentence_texts: SentenceTexts | None = None,
    **changes: object,
) -> Path:
    """STEM.manifest.json and all its files in ``folder``; returns the path of the manifest."""
    head = Head.of(task, num_labels=len(labels), tied_decoder=tied_decoder, activation=activation)
    head = replace(head, sentence=sentence)
    config = replace(TINY, add_pooling_layer=task == "model" or head.reads_pooled)
    config = replace(config, **changes)  # type: ignore[arg-type]
    folder.mkdir(parents=True, exist_ok=True)
    names = {"program": f"{stem}.pdmodel", "weights": f"{stem}.pdiparams", "onnx": f"{stem}.onnx"}
    (folder / names["program"]).write_bytes(b"no program")
    (folder / names["onnx"]).write_bytes(b"no graph")
    tensors = write_weights(folder / names["weights"], tensor_shapes(config, head), seed)
    if tokenizer is not None:
        names["tokenizer"] = f"{stem}.tokenizer.json"
        (folder / names["tokenizer"]).write_bytes(tokenizer.read_bytes())
    paths = {role: folder / name for role, name in names.items()}
    manifest = Manifest(
        name=stem,
        task=task,
        precision="fp32",
        created_by={"albert-runtime": "0.1.0"},
        weights_origin={"kind": "random", "seed": seed},
        config=config,
        labels=tuple(labels) if task in LABELLED else None,
        inputs=INPUTS,
        outputs=head.outputs(config),
        files={role: FileRecord(p.name, p.stat().st_size, sha256_file(p)) for role, p in paths.items()},
        tensors=tuple(tensors),
        verification={},
        head=head,
        sentence_texts=sentence_texts,
        max_length=max_length,
    )
    path = folder / f"{stem}.manifest.json"
    manifest.write(path)
    return path


def add_proof(path: Path) -> Path:
    """Put into a manifest the proof that an export would put there; returns its path."""
    replace(Manifest.read(path), proof=make_proof(path)).write(path)
    return path


@pytest.fixture
def make_artifact(tmp_path: Path) -> MakeArtifact:
    """``write_artifact`` into a new folder, or into ``folder``."""

    def make(stem: str = "tiny", folder: Path | None = None, **options: object) -> Path:
        return write_artifact(folder or tmp_path / "artifact", stem, **options)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def tiny_config() -> AlbertConfig:
    """The config of a hand-made artifact without changes."""
    return TINY


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer.json of a few words with ALBERT's special tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 2), ("[SEP]", 3)]
    )
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture(scope="session")
def piece_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer.json of SentencePiece's form, as ALBERT's: pieces of words, lower-case, no accents."""
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

    special = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
    words = ["\u2581" + word for word in ("", "anna", "smith", "lives", "in", "paris", "who", "a", "b")]
    pieces = [*special, *words, *"abcdefghijklmnopqrstuvwxyz.,?"]
    scores = [-1.0 if len(piece) > 2 else -9.0 for piece in pieces]
    tokenizer = Tokenizer(models.Unigram(list(zip(pieces, scores, strict=True)), unk_id=1))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(
        [AddedToken(piece, lstrip=piece == "[MASK]", normalized=False) for piece in special]
    )
    path = tmp_path_factory.mktemp("pieces") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture(scope="session")
def marked_tokenizer(piece_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``piece_tokenizer`` as it is made from a spiece.model: a mere space mark stands for the space alone."""
    from tokenizers import Tokenizer, pre_tokenizers

    tokenizer = Tokenizer.from_file(str(piece_tokenizer))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    path = tmp_path_factory.mktemp("marks") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture
def make_task(make_artifact: MakeArtifact, piece_tokenizer: Path, tmp_path: Path) -> MakeArtifact:
    """make_task(task, **changes): an artifact of a task with a tokenizer, in a folder of the task's name."""

    def make(task: str, **changes: object) -> Path:
        options = {"max_position_embeddings": 64, "tokenizer": piece_tokenizer, **changes}
        return make_artifact(folder=tmp_path / task, task=task, **options)

    return make


@pytest.fixture
def driver(monkeypatch):
    """A driver in place of libcuda.so.1."""
    fake, real = Driver(), ctypes.CDLL
    monkeypatch.setattr(
        ctypes, "CDLL", lambda name, *more: fake if name == nvidia.DRIVER else real(name, *more)
    )
    return fake


@pytest.fixture
def no_driver(monkeypatch):
    """A machine without an NVIDIA driver, whatever this one has."""
    monkeypatch.setattr(nvidia, "DRIVER", "libcuda.so.none")


@pytest.fixture
def runtime(monkeypatch, driver, tmp_path):
    """A machine with a GPU, TensorRT and an empty folder of engines."""
    fake = Runtime()
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    monkeypatch.setitem(sys.modules, "tensorrt", types.ModuleType("tensorrt"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return fake
