"""Trains export/albert_export/data/demo-tokenizer.json on this project's own text.

The exporter puts a copy beside seeded random weights, so that strings can be tried offline. It behaves like
the tokenizer of the English ALBERT models (lower case, no accents, U+2581 before words, the same ids for the
special tokens), with a vocabulary small enough for the repository. It uses byte-pair encoding (BPE), whose
training gives the same file for the same text. The result is in the repository; run this only to replace it:
python tools/make_demo_tokenizer.py
"""

import ast
import json
import re
import string
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "export" / "albert_export" / "data" / "demo-tokenizer.json"
PIECES = 2000
SPECIAL = ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")


def project_text() -> Iterator[str]:
    """Paragraphs of the documentation, docstrings of the Python code and comments of the C++ code."""
    for path in [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]:
        yield from path.read_text(encoding="utf-8").split("\n\n")
    for folder in ("export", "runtime", "tests", "tools"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield from docstrings(path)
    for path in sorted((ROOT / "csrc").rglob("*.[ch]*")):
        comments = re.findall(r"^\s*//+ ?(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        yield " ".join(comments)


def docstrings(path: Path) -> Iterator[str]:
    """Every docstring of a Python file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""


def train() -> Tokenizer:
    """The trained tokenizer, with ALBERT's normalizer and its [CLS] A [SEP] B [SEP] template."""
    tokenizer = Tokenizer(BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace("``", '"'),
            normalizers.Replace("''", '"'),
            normalizers.NFKD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    trainer = BpeTrainer(
        vocab_size=PIECES,
        special_tokens=list(SPECIAL),
        min_frequency=2,
        initial_alphabet=list(string.ascii_lowercase + string.digits + string.punctuation),
        show_progress=False,
    )
    tokenizer.train_from_iterator(project_text(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", SPECIAL.index("[CLS]")), ("[SEP]", SPECIAL.index("[SEP]"))],
    )
    tokenizer.add_special_tokens(
        [AddedToken(token, lstrip=token == "[MASK]", normalized=False) for token in SPECIAL]
    )
    return tokenizer


def main() -> None:
    """Train the tokenizer and write it."""
    tokenizer = train()
    assert [tokenizer.token_to_id(token) for token in SPECIAL] == list(range(len(SPECIAL)))
    TARGET.parent.mkdir(exist_ok=True)
    data = json.loads(tokenizer.to_str())
    TARGET.write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{TARGET.relative_to(ROOT)}: {tokenizer.get_vocab_size()} pieces, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
