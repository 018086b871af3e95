"""Small models of transformers with tokenizers of both kinds, and texts to ask them about."""

import io
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from albert_runtime import Predictor

MAX_LENGTH = 64
SENTENCES = """\
Ada Lovelace wrote the first program for a machine that was never built, in London.
Where did she live before the war, and why was nobody told until 1843?
The quick brown fox jumps over the lazy dog; it is very zealous, and quite exact.
A list is a collection of objects: you may sort, slice or reverse it in place.
Yesterday's weather in New York was "mild" (18 degrees), said Mr. Kim of Xerox.
""".splitlines()
WORDS = [word for word in " ".join(SENTENCES).split() if word.isalnum()]
SIGNS = ".,;:?!()\"'`-_/"
# What tokenizers stumble over: accents, composed or not, ligatures, other scripts, quotes, spaces, numbers.
ODD = ["Caf\u00e9,", "na\u0301ive", "\ufb01ne", "\u2167", "\u201cso\u201d", "don't", "U.S.", "1,0"]
ODD += ["(x)", "\U0001f600", "\u5df4\u9ece", "x_y", "a/b", "a\tb", "--", "e-mail:", "\u00a0z"]


@dataclass(frozen=True)
class Both:
    """One checkpoint: ours, and transformers' model and tokenizer, of which its pipelines are made."""

    ours: Predictor
    model: Any
    tokenizer: Any

    def pipeline(self, task: str, **options: Any) -> Any:
        """transformers' pipeline. Model and tokenizer are objects, so that no hub is asked for anything."""
        from transformers import pipeline

        return pipeline(task, model=self.model, tokenizer=self.tokenizer, device="cpu", **options)


def plain_texts(count: int, longest: int = 12) -> list[str]:
    """Texts of words with a space between them."""
    rng = random.Random(1)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, longest))) for _ in range(count)]


def odd_texts(count: int) -> list[str]:
    """Texts with signs, other scripts, and any number of spaces."""
    rng = random.Random(2)
    words = [*" ".join(SENTENCES).split(), *ODD * 2]
    texts = []
    for _ in range(count):
        spaced = [word + rng.choice((" ", " ", "  ")) for word in rng.choices(words, k=rng.randint(1, 9))]
        texts.append(rng.choice(("", " ")) + "".join(spaced))
    return texts


def _write_pieces(folder: Path) -> None:
    import sentencepiece

    letters = " ".join("abcdefghijklmnopqrstuvwxyz0123456789")
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*SENTENCES, *plain_texts(50), *[letters] * 30]),
        model_writer=out,
        vocab_size=300,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc_cf",
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        control_symbols=["[CLS]", "[SEP]", "[MASK]"],
        minloglevel=2,
    )
    (folder / "spiece.model").write_bytes(out.getvalue())


def _read_pieces(folder: Path) -> Any:
    from transformers import AlbertTokenizerFast

    return AlbertTokenizerFast(str(folder / "spiece.model"), model_max_length=MAX_LENGTH)


def _write_word_pieces(folder: Path) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(word.lower() for word in WORDS[:40])]
    tokens += [*letters, *(f"##{letter}" for letter in letters), *SIGNS, "\u5df4", "\u9ece"]
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(tokens)) + "\n", encoding="utf-8")


def _read_word_pieces(folder: Path) -> Any:
    from transformers import BertTokenizerFast

    return BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=MAX_LENGTH)


# kind -> (write(folder), read(folder) -> tokenizer): SentencePiece as the English models have it, WordPiece
# as the Chinese.
TOKENIZERS = {
    "pieces": (_write_pieces, _read_pieces),
    "word pieces": (_write_word_pieces, _read_word_pieces),
}


def make_model(class_name: str, tokenizer: Any, config: dict[str, Any]) -> Any:
    """A model whose every parameter is random, and its head such that every label wins somewhere."""
    import torch
    import transformers

    sizes = {
        "vocab_size": len(tokenizer),
        "embedding_size": 16,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": MAX_LENGTH,
    }
    model = getattr(transformers, class_name)(transformers.AlbertConfig(**sizes, **config)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            norm, bias = name.lower().endswith("norm.weight"), name.endswith("bias")
            parameter.normal_(1.0 if norm else 0.0, 0.05 if bias else 0.3, generator=generator)
        names = ("classifier", "qa_outputs", "predictions.bias")
        head = [value for name, value in model.named_parameters() if name.startswith(names)]
        if head:
            columns = _columns(model, tokenizer)
            head[-1].sub_(columns.mean(0))
            for parameter in head:
                parameter.mul_(3 / columns.std(0).mean() if len(head) == 2 else 1)
    return model


def _columns(model: Any, tokenizer: Any) -> Any:
    """The logits [N, columns] of some texts: of each text, of its tokens, or of a mask in it."""
    import torch

    batch = tokenizer(plain_texts(40), return_tensors="pt", padding=True)
    kept = batch["attention_mask"].bool()
    if hasattr(model, "predictions"):
        batch["input_ids"][:, 1] = tokenizer.mask_token_id
        kept = batch["input_ids"] == tokenizer.mask_token_id
    result = model(**batch)
    logits = result.logits if "logits" in result else torch.stack(result.to_tuple(), -1)
    return logits if logits.ndim == 2 else logits[kept]
