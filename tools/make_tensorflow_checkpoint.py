"""Writes tests/data/tensorflow/google: a checkpoint by TensorFlow itself, and transformers' answers to it.

Run in a throwaway environment with TensorFlow 2.21, torch and transformers 4.57, in the repository's root:

    python tools/make_tensorflow_checkpoint.py

The variables are those of google-research/albert's run_pretraining.py after a step of its optimizer: with
adam_m and adam_v beside each, and global_step. Two devices make two shards. The pooler's matrix is float16,
and one of the optimizer's variables bfloat16: transformers' converter takes none of the model's in bfloat16.
"""

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
import torch
from transformers import AlbertConfig, AlbertForPreTraining
from transformers.models.albert.modeling_albert import load_tf_weights_in_albert

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tests.export.checkpoint.tensorflow.models import CONFIG, google, slots  # noqa: E402

FOLDER = ROOT / "tests" / "data" / "tensorflow" / "google"


def main() -> None:
    """Write the checkpoint, its config and the answers."""
    tensors = slots(google(CONFIG, "predictions", "seq_relationship", seed=5))
    del tensors["beta1_power"]  # of another optimizer, over which the converter stumbles
    graph = tf.compat.v1.Graph()
    with graph.as_default():
        variables = []
        for number, (name, value) in enumerate(tensors.items()):
            stored = value
            if name == "bert/pooler/dense/kernel":
                stored = value.astype(np.float16)
            if name == "bert/pooler/dense/bias/adam_m":
                stored = tf.cast(np.arange(24) / 7, tf.bfloat16)
            with tf.device(f"/cpu:{number % 2}"):
                variables.append(tf.compat.v1.get_variable(name, initializer=stored))
        saver = tf.compat.v1.train.Saver(variables, sharded=True)
        settings = tf.compat.v1.ConfigProto(device_count={"CPU": 2})
        with tf.compat.v1.Session(config=settings) as session:
            session.run(tf.compat.v1.global_variables_initializer())
            saver.save(session, str(FOLDER / "model.ckpt"), global_step=7, write_meta_graph=False)
    state = FOLDER / "checkpoint"
    state.write_text(state.read_text().replace(str(FOLDER), "/training/output"), encoding="utf-8")
    (FOLDER / "albert_config.json").write_text(json.dumps(CONFIG, indent=1) + "\n", encoding="utf-8")
    # transformers calls Google's gelu by another name.
    config = AlbertConfig(**{**CONFIG, "hidden_act": "gelu_new"})
    model = AlbertForPreTraining(config)
    load_tf_weights_in_albert(model, config, str(FOLDER / "model.ckpt-7"))
    model.predictions.decoder.bias = model.predictions.bias
    generator = np.random.default_rng(3)
    ids = generator.integers(0, CONFIG["vocab_size"], (3, 9))
    mask = (np.arange(9) < np.array([[9], [5], [2]])).astype(np.int64)
    types = generator.integers(0, 2, (3, 9))
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    with torch.no_grad():
        result = model.double().eval()(**{name: torch.from_numpy(value) for name, value in inputs.items()})
    answers = {"prediction_scores": result.prediction_logits, "sop_logits": result.sop_logits}
    arrays = {name: value.numpy() for name, value in answers.items()}
    np.savez_compressed(FOLDER / "answers.npz", **inputs, **arrays)


if __name__ == "__main__":
    main()
