"""Packs chosen programs that the other scripts wrote into archives: ../files/torch.tar.xz and so on.

    python store.py FOLDER    FOLDER/TOOL/NAME are the folders of the programs

Tried with onnx 1.19.1. The programs of an archive have mostly the same weights, so they are small together.
"""

import lzma
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import onnx

FILES = Path(__file__).parent.parent / "files"
# What programs are read without.
LEFT_OUT = ("model.pdiparams.info", "special_tokens_map.json", "ort_config.json", "spiece.model")
# What is only refused needs no answers, and no exact weights.
REFUSED = "other"
CHOSEN = {
    "torch": {
        "torch-script": """
            masked-lm masked-lm-untied model model-attentions model-epsilon model-fixed-length
            model-fixed-opset11 model-gelu-fast model-gelu-opset11
            model-gelu-pytorch-tanh-opset20 model-groups model-groups-inner model-half
            model-half-opset17-eager model-hidden-states model-ids-mask model-ids-only
            model-no-pooler model-one-head model-one-layer model-opset11 model-opset17-eager
            model-opset20 model-pooled-only model-relu model-square model-swish model-three-types
            model-unfolded model-unnamed multiple-choice multiple-choice-eager pretraining
            question-answering sentence-mean sentence-mean-normalized sequence-classification
            sequence-classification-half sequence-classification-regression
            sequence-classification-softmax sequence-classification-two-inputs
            token-classification
        """,
        "torch-script-old": """
            masked-lm model model-fixed model-ids-only model-inner model-unnamed
            question-answering
        """,
        "torch-dynamo": """
            model model-external model-fixed model-half model-ids-only model-inner model-opset23
            model-unoptimized multiple-choice pretraining question-answering
            sequence-classification
        """,
        "transformers-onnx": "default masked-lm question-answering",
        "optimum": """
            feature-extraction-fp16 feature-extraction-o2 fill-mask fill-mask-o3 multiple-choice
            question-answering text-classification text-classification-fixed
            text-classification-slim token-classification
        """,
        "optimum-old": "fill-mask-o2 multiple-choice text-classification-o3",
        "sentence-transformers": "library-max library-mean optimum-cls optimum-max optimum-mean",
        "onnxruntime": """
            fused-fast-gelu-model-gelu fused-fp16-model-eager fused-level0-model-eager
            fused-masked-lm-eager fused-model fused-model-fixed-opset11 fused-model-gelu
            fused-model-groups int8-model int8-sequence-classification session-all-model
            session-basic-model session-extended-model-eager session-extended-model-gelu-opset11
        """,
        "onnx-passes": """
            constants-as-nodes-model external-each-model external-sequence-classification
            half-inside-masked-lm half-model half-sequence-classification onnxoptimizer-model
            onnxsim-fixed-model onnxsim-masked-lm onnxslim-masked-lm onnxslim-model-opset11
            opset18-model weights-as-floats-model weights-as-inputs-model
        """,
    },
    "paddle": {
        "paddle2-pdmodel": """
            masked-lm model-groups model-ids-only multiple-choice question-answering
            sequence-classification
        """,
        "paddle3-pdmodel": "model-inner model-relu",
        "paddle3-json": """
            model model-fixed model-two-inputs multiple-choice pretraining question-answering
            sequence-classification-softmax token-classification
        """,
        "paddle2onnx-old": """
            masked-lm-opset17 model-inner-opset13 model-padding-id-3-opset13
            question-answering-opset13 sequence-classification-two-inputs-opset13
        """,
        "paddle2onnx-pdmodel": "model-two-inputs-opset13 sequence-classification-opset17",
        "paddle2onnx-json": """
            masked-lm-opset11 model-fixed-opset13 model-groups-opset13 model-ids-only-opset13
            model-no-padding-id-opset13 model-opset13 model-opset13-unoptimized
            model-padding-id-3-opset13 model-two-named-opset13 multiple-choice-opset13
            pretraining-opset13 question-answering-opset17
            sequence-classification-softmax-opset13
        """,
    },
    "other": {
        "other": """
            albert-first-token albert-last-two-layers albert-lstm-head albert-max-pooling
            albert-relative-positions albert-two-layer-head bert bert-masked-lm
            bert-sequence-classification convnet distilbert electra roberta t5-encoder
        """,
        "paddle3-pdmodel-other": "bert convnet",
        "paddle3-json-other": "convnet ernie",
    },
}


def without_origin(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """The same bytes whenever and wherever they are packed."""
    entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, 0, "", ""
    entry.mode = 0o644
    return entry


def round_weights(file: Path) -> None:
    """Round the weights of an ONNX file to eighths, so that they are packed small."""
    model = onnx.load(str(file))
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.size > 64 and values.dtype == np.float32:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.round(values * 8) / 8, tensor.name))
    onnx.save(model, str(file))


def gather(programs: Path, tools: dict[str, str], folder: Path, *, refused: bool) -> None:
    """Copy the chosen programs of an archive to ``folder``."""
    leave_out = shutil.ignore_patterns(*LEFT_OUT, *(("io.npz",) if refused else ()))
    for tool, names in tools.items():
        for name in names.split():
            copy = folder / tool / name
            shutil.copytree(programs / tool / name, copy, ignore=leave_out)
            if refused and (copy / "model.onnx").exists():
                round_weights(copy / "model.onnx")


def pack(folder: Path, file: Path) -> None:
    compressor = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}
    with (
        lzma.open(file, "wb", filters=[compressor]) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as archive,
    ):
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.add(path, str(path.relative_to(folder)), filter=without_origin)


def main(programs: Path) -> None:
    FILES.mkdir(exist_ok=True)
    for name, tools in CHOSEN.items():
        with tempfile.TemporaryDirectory() as folder:
            gather(programs, tools, Path(folder), refused=name == REFUSED)
            pack(Path(folder), FILES / f"{name}.tar.xz")
        print(name, (FILES / f"{name}.tar.xz").stat().st_size)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
