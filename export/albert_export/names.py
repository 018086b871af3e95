"""File suffixes of an artifact: STEM + suffix."""

from albert_runtime import manifest

PROGRAM_SUFFIXES = {"pdmodel": ".pdmodel", "json": ".json"}
WEIGHTS_SUFFIX = ".pdiparams"
ONNX_SUFFIX = ".onnx"
TOKENIZER_SUFFIX = ".tokenizer.json"
MANIFEST_SUFFIX = manifest.SUFFIX

ALL_SUFFIXES = (*PROGRAM_SUFFIXES.values(), WEIGHTS_SUFFIX, ONNX_SUFFIX, TOKENIZER_SUFFIX, MANIFEST_SUFFIX)
