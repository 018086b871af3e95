"""What an export says of the tokenizer, and what it keeps of it."""

import json

from albert_runtime import Predictor

from .test_build import SPECIALS

VOCAB = (*SPECIALS, "hello", "nba", "caf\u00e9", "cafe", "\u6211")


def test_the_log_names_the_rule_and_the_manifest_has_the_length(
    run, tmp_path, write_checkpoint, tiny, tiny_tensors
):
    folder = write_checkpoint(tmp_path / "zh", tiny, tiny_tensors, tokenizer_class="BertTokenizer")
    (folder / "vocab.txt").write_text("\n".join(VOCAB) + "\n", encoding="utf-8")
    values = {"model_max_length": 5, "never_split": ["x"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(values))
    outcome = run(folder, "-o", tmp_path, "--keep-accents")
    assert outcome.code == 0, outcome.err
    assert (
        "zh.tokenizer.json, from the checkpoint's vocab.txt, folds case (the rule of BertTokenizer, named in "
        "config.json), keeps accents" in outcome.err
    )
    assert "note: never_split in tokenizer_config.json has no effect" in outcome.err
    predictor = Predictor(tmp_path / "zh.manifest.json")
    assert predictor.manifest.max_length == 5
    packed = predictor.pack(["Hello NBA \u6211 caf\u00e9 hello"], truncate=True)
    assert packed.input_ids.tolist() == [2, 5, 6, 9, 3]
    assert predictor.pack(["Caf\u00e9"]).input_ids.tolist() == [2, 7, 3]


def test_a_longest_row_beyond_the_positions_is_none(run, tmp_path, write_checkpoint, tiny, tiny_tensors):
    folder = write_checkpoint(tmp_path / "zh", tiny, tiny_tensors)
    (folder / "vocab.txt").write_text("\n".join(VOCAB) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 10**30}))
    assert run(folder, "-o", tmp_path).code == 0
    assert "max_length" not in json.loads((tmp_path / "zh.manifest.json").read_text())
