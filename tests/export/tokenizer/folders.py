"""What the tests of folders share: a vocabulary, texts, and transformers' AutoTokenizer as the oracle."""

import json
import warnings

import pytest
import tokenizers

from albert_export.tokenizer.build import MadeTokenizer, make_tokenizer
from albert_export.tokenizer.choices import Choices

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its imports, which are not ours to mend
    transformers = pytest.importorskip("transformers", "4.40", reason="the oracle")
if int(transformers.__version__.split(".")[0]) >= 5:
    pytest.skip("transformers 5 has no slow tokenizers to compare with", allow_module_level=True)

SIZE = 90
CONFIG = {"model_type": "albert", "vocab_size": SIZE}
VOCAB = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused1]", "hello", "nba", "\u6211", "Hello"),
    *(
        "cafe",
        "caf\u00e9",
        "uber",
        "\u00fcber",
        "\u00dcber",
        "covid",
        "##19",
        "19",
        "\u1112",
        "##\u1161",
        "##\u11ab",
    ),
    *("\ud55c", "##\uad6d", "\u092e", "##\u0947", "##\u0902", "\u092e\u0947\u0902", "<", "e1", ">", "NBA"),
)
CHINESE_TEXTS = (
    "Hello NBA \u6211",
    "\u00dcber \ud55c\uad6d \u092e\u0947\u0902 caf\u00e9 Cafe\u0301",
    "[unused1] hello [MASK]<e1>covid19",
)
ENGLISH_TEXTS = (
    "the cat <e1> <e2> sat",
    " <e1> the <e2>",
    "The<e1>CAT [MASK] the dog<e2>",
    "a [MASK] <e1>. [CLS] sat",
    "c\u00e0t \u0926\u093f\u0932\u094d\u0932\u0940",
)


def make(folder, **choices) -> MadeTokenizer:
    made = make_tokenizer(folder, Choices(**{"hugging_face": True, **choices}))
    assert made is not None
    return made


def loaded(made: MadeTokenizer) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_str(made.json.decode())


def auto(folder, **options):
    return transformers.AutoTokenizer.from_pretrained(str(folder), **options)


def assert_same(made: MadeTokenizer, oracle, texts=CHINESE_TEXTS) -> None:
    ours = loaded(made)
    for text in texts:
        assert ours.encode(text).ids == oracle(text)["input_ids"], text
    pair, expected = ours.encode(texts[0], texts[1]), oracle(texts[0], texts[1])
    assert pair.ids == expected["input_ids"]
    assert pair.type_ids == expected.get("token_type_ids", [0] * len(pair))


def saved(path, slow, **changes):
    """The tokenizer as transformers saves it, then its options changed by hand."""
    slow.save_pretrained(str(path))
    file = path / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
