"""Tiny sentence-transformers folders, and what ``SentenceTransformer.encode`` gives for them.

``encode`` is the package's own short arithmetic (6.2.0: Transformer.preprocess, Pooling._forward_padded,
Dense, Normalize) over transformers' AlbertModel. Where the package is installed it asks that instead: running
these tests in an environment with sentence-transformers 6.2.0 verifies this file.
"""

import importlib.util
import json
from importlib import resources
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
torch.set_num_threads(1)

POSITIONS, HIDDEN, VOCABULARY = 48, 24, 1990
TEXTS = [
    "A short sentence about learning Python.",
    "no",
    "The Engine packs ITS weights once, and every process of the user shares them; nothing runs twice.",
    " ".join(["a file that is far longer than the model has positions for"] * 8),
]
FLAGS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
SPECIAL = {"pad": "<pad>", "unk": "<unk>", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_tokenizer(folder, *, cased=False, model_max_length=None):
    """The packaged demo tokenizer, without its own lower-casing if ``cased``."""
    content = json.loads(
        resources.files("albert_export").joinpath("data", "demo-tokenizer.json").read_bytes()
    )
    if cased:
        steps = content["normalizer"]["normalizers"]
        content["normalizer"]["normalizers"] = [step for step in steps if step["type"] != "Lowercase"]
    write_json(folder / "tokenizer.json", content)
    more = {} if model_max_length is None else {"model_max_length": model_max_length}
    names = {f"{role}_token": token for role, token in SPECIAL.items()}
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", **names, **more},
    )


def _config(**more):
    torch.manual_seed(5)
    return transformers.AlbertConfig(
        vocab_size=VOCABULARY,
        embedding_size=12,
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=POSITIONS,
        initializer_range=0.5,
        **more,
    )


def write_cross_encoder(folder):
    """A folder as CrossEncoder.save_pretrained of 6.2.0 writes it, one label."""
    transformers.AlbertForSequenceClassification(_config(num_labels=1)).save_pretrained(folder)
    write_tokenizer(folder)
    kind = "sentence_transformers.base.modules.transformer.Transformer"
    write_json(folder / "modules.json", [{"idx": 0, "name": "0", "path": "", "type": kind}])
    logits = {"text": {"method": "forward", "method_output_name": "logits"}}
    write_json(
        folder / "sentence_bert_config.json",
        {
            "transformer_task": "sequence-classification",
            "modality_config": logits,
            "module_output_name": "scores",
        },
    )
    activation = "torch.nn.modules.activation.Sigmoid"
    write_json(
        folder / "config_sentence_transformers.json",
        {
            "model_type": "CrossEncoder",
            "activation_fn": activation,
            "default_prompt_name": None,
            "prompts": {},
        },
    )
    return folder


def scores(folder, pairs):
    """float32 [B]: what CrossEncoder(folder).predict(pairs) gives."""
    if importlib.util.find_spec("sentence_transformers") is not None:
        from sentence_transformers import CrossEncoder

        return CrossEncoder(str(folder), device="cpu").predict(pairs)
    model = transformers.AlbertForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    firsts, seconds = zip(*pairs, strict=True)
    with torch.no_grad():
        logits = model(**tokenizer(list(firsts), list(seconds), padding=True, return_tensors="pt")).logits
    return torch.sigmoid(logits[:, 0]).numpy()


def write_folder(
    folder: Path,
    *,
    pooling=("mean",),
    old=False,
    include_prompt=True,
    modules=(),
    limit=None,
    lowercase=False,
    settings=None,
    cased=False,
    model_max_length=None,
):
    """A folder in today's form, or in that of releases before 0.4 (``old``: 0_Transformer, flags, .bin).

    ``modules``: names, or {fields of a Dense's config}; ``settings``: config_sentence_transformers.json.
    """
    config = _config()
    model = transformers.AlbertModel(config).eval()
    encoder = folder / "0_Transformer" if old else folder
    model.save_pretrained(encoder, safe_serialization=not old)
    write_tokenizer(encoder, cased=cased, model_max_length=model_max_length)
    write_json(encoder / "sentence_bert_config.json", {"max_seq_length": limit, "do_lower_case": lowercase})
    names = [("Transformer", encoder.name if old else ""), ("Pooling", "1_Pooling")]
    if old:
        flags = {flag: kind in pooling for kind, flag in FLAGS.items()}
        write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": HIDDEN, **flags})
    else:
        values = {"embedding_dimension": HIDDEN, "pooling_mode": list(pooling) if pooling[1:] else pooling[0]}
        write_json(folder / "1_Pooling" / "config.json", {**values, "include_prompt": include_prompt})
    for index, module in enumerate(modules, 2):
        kind = module if isinstance(module, str) else "Dense"
        place = folder / f"{index}_{kind}"
        place.mkdir()
        names.append((kind, place.name))
        if kind == "Dense":
            write_json(place / "config.json", module)
            write_dense(place, module, old=old)
        elif kind == "Dropout":
            write_json(place / "config.json", {"dropout": 0.5})
    write_json(
        folder / "modules.json",
        [
            {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for index, (kind, path) in enumerate(names)
        ],
    )
    if settings is not None:
        write_json(folder / "config_sentence_transformers.json", settings)
    return folder


def write_dense(place, config, *, old):
    from safetensors.torch import save_file

    linear = torch.nn.Linear(config["in_features"], config["out_features"], bias=config.get("bias", True))
    tensors = {f"linear.{name}": value.detach() for name, value in linear.state_dict().items()}
    torch.save(tensors, place / "pytorch_model.bin") if old else save_file(
        tensors, place / "model.safetensors"
    )


def dense(inputs, outputs, activation="torch.nn.modules.activation.Tanh", **more):
    return {
        "in_features": inputs,
        "out_features": outputs,
        "bias": True,
        "activation_function": activation,
        **more,
    }


def encode(folder, texts, prompt_name=None):
    """float32 [B, D]: what SentenceTransformer(folder).encode(texts, prompt_name=prompt_name) gives."""
    if importlib.util.find_spec("sentence_transformers") is not None:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(folder), device="cpu")
        return model.encode(list(texts), prompt_name=prompt_name, batch_size=3)
    return _Reference(folder).encode(texts, prompt_name)


def reference_of(folder, states, mask):
    """float32 [B, D]: the modules behind the encoder on hidden states [B, T, H] under a mask [B, T]."""
    with torch.no_grad():
        reference = _Reference(folder)
        return reference.behind(torch.from_numpy(states), torch.from_numpy(mask), 0).numpy()


def _read(path):
    return json.loads(path.read_text()) if path.is_file() else {}


class _Reference:
    def __init__(self, folder):
        self.folder = folder
        self.modules = _read(folder / "modules.json")
        encoder = folder / self.modules[0]["path"]
        settings = _read(encoder / "sentence_bert_config.json")
        self.model = transformers.AlbertModel.from_pretrained(encoder).eval()
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(encoder)
        limit = settings.get("max_seq_length")
        self.limit = limit or min(self.tokenizer.model_max_length, POSITIONS)
        if settings.get("do_lower_case"):
            from tokenizers.normalizers import Lowercase, Sequence

            backend = self.tokenizer.backend_tokenizer
            if not any(isinstance(step, Lowercase) for step in backend.normalizer):
                backend.normalizer = Sequence([Lowercase(), *backend.normalizer])
        saved = _read(folder / "config_sentence_transformers.json")
        self.prompts = {"query": "", "document": "", **saved.get("prompts", {})}
        self.default = saved.get("default_prompt_name")

    def tokens(self, texts):
        return self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.limit, return_tensors="pt"
        )

    def encode(self, texts, prompt_name):
        name = self.default if prompt_name is None else prompt_name
        prompt = "" if name is None else self.prompts[name]
        features = self.tokens([prompt + text for text in texts])
        with torch.no_grad():
            states = self.model(**features).last_hidden_state
            mask = features["attention_mask"]
            length = self.tokens([prompt])["input_ids"].shape[1] - 1 if prompt else 0
            return self.behind(states, mask, length).numpy()

    def behind(self, states, mask, length):
        vector = self.pooled(_read(self.folder / "1_Pooling" / "config.json"), states, mask, length)
        for module in self.modules[2:]:
            vector = self.step(self.folder / module["path"], module["type"], vector)
        return vector

    def pooled(self, config, states, mask, length):
        kinds = config.get("pooling_mode") or [kind for kind, flag in FLAGS.items() if config[flag]]
        whole = mask
        if length and not config.get("include_prompt", True):
            mask = mask.clone()
            mask[:, :length] = 0
        wide = mask.unsqueeze(-1).to(states.dtype)
        vectors = []
        for kind in [kinds] if isinstance(kinds, str) else kinds:
            rows = torch.arange(len(states))
            if kind == "cls":
                vectors.append(states[rows, mask.to(torch.int).argmax(1)])
            elif kind == "max":
                vectors.append(states.masked_fill(wide == 0, float("-inf")).max(dim=1).values)
            elif kind == "lasttoken":
                vectors.append(states[rows, mask.shape[1] - 1 - mask.flip(1).to(torch.int).argmax(1)])
            else:
                weights = wide
                if kind == "weightedmean":
                    places = torch.arange(1, states.shape[1] + 1, dtype=states.dtype).view(1, -1, 1)
                    weights = wide * (places - whole.to(torch.int).argmax(1).view(-1, 1, 1))
                total = weights.sum(1).clamp(min=1e-9)
                vectors.append((states * weights).sum(1) / (total.sqrt() if "sqrt" in kind else total))
        return torch.cat(vectors, -1)

    def step(self, place, kind, vector):
        if kind.endswith("Normalize"):
            return torch.nn.functional.normalize(vector, p=2, dim=-1)
        if kind.endswith("Dropout"):
            return vector
        config = _read(place / "config.json")
        linear = torch.nn.Linear(config["in_features"], config["out_features"], bias=config.get("bias", True))
        if (place / "model.safetensors").is_file():
            from safetensors.torch import load_file

            tensors = load_file(place / "model.safetensors")
        else:
            tensors = torch.load(place / "pytorch_model.bin")
        linear.load_state_dict({name.removeprefix("linear."): value for name, value in tensors.items()})
        activation = config.get("activation_function", "Tanh").rsplit(".", 1)[-1]
        return getattr(torch.nn, activation)()(linear(vector))
