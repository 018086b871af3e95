"""Programs that are no ALBERT of ours: the message names the first node that does not fit, and why."""

import math

import numpy as np
import onnxruntime
import pytest

from albert_export.errors import ExportError
from albert_export.programs.albert import take_albert
from albert_export.programs.program_file import find_program, read_program
from albert_runtime.artifact.sentence import SentenceHead

from .spellings.nodes import CONFIG, HEADS, SIZE
from .spellings.program import Program, save
from .stored import Case, stored

SECOND_MAP = (
    "it is a second map of the embeddings, of which an ALBERT makes one (embedding_hidden_mapping_in) to its "
    "hidden size"
)
QUANTIZED = "it is quantized; give the program before that, or its checkpoint"
LAYER = "/encoder/albert_layer_groups.0/albert_layers.0"
NODES = {
    "other/albert-last-two-layers": ("/Concat (Concat)", "it puts hidden states behind each other"),
    "other/albert-lstm-head": (
        "/recurrent/LSTM (LSTM)",
        "no ALBERT has this operator on its hidden states",
    ),
    "other/albert-max-pooling": ("/ReduceMax (ReduceMax)", "it takes the greatest of masked tokens, too"),
    "other/albert-relative-positions": (
        f"{LAYER}/attention/Einsum (Einsum)",
        "it multiplies two hidden states that are no queries and keys",
    ),
    "other/albert-two-layer-head": (
        "/Relu (Relu)",
        "it makes relu of a linear map of the pooled output",
    ),
    "other/bert": ("/encoder/layer.0/attention/self/key/Add (Add)", SECOND_MAP),
    "other/bert-masked-lm": ("/bert/encoder/layer.0/attention/self/key/Add (Add)", SECOND_MAP),
    "other/bert-sequence-classification": (
        "/bert/encoder/layer.0/attention/self/key/Add (Add)",
        SECOND_MAP,
    ),
    "other/distilbert": ("/transformer/layer.0/attention/k_lin/Add (Add)", SECOND_MAP),
    "other/roberta": (
        "/embeddings/position_embeddings/Gather (Gather)",
        "it looks up other rows than those of word ids, token types or positions",
    ),
    "other/t5-encoder": (
        "/encoder/block.0/layer.0/layer_norm/Pow (Pow)",
        "its function is no gelu, gelu_new, relu, tanh or sigmoid",
    ),
    "paddle3-pdmodel-other/bert": ("linear_1.tmp_1 (elementwise_add)", SECOND_MAP),
    "paddle3-json-other/ernie": ("op 92 (pd_op.add)", SECOND_MAP),
    "torch-script/model-swish": (
        f"{LAYER}/activation/Mul (Mul)",
        "its function is no gelu, gelu_new, relu, tanh or sigmoid",
    ),
    "onnxruntime/int8-model": (
        "/embeddings/word_embeddings/Gather_output_0_DequantizeLinear (DequantizeLinear)",
        QUANTIZED,
    ),
    "onnxruntime/int8-sequence-classification": (
        "/albert/embeddings/word_embeddings/Gather_output_0_DequantizeLinear (DequantizeLinear)",
        QUANTIZED,
    ),
}
IMAGES = ("other/convnet", "paddle3-pdmodel-other/convnet", "paddle3-json-other/convnet")
# Of the other networks, those that are an ALBERT all the same.
ALBERTS = ("other/albert-first-token", "other/electra")


def refusal(folder):
    with pytest.raises(ExportError) as error:
        take_albert(read_program(find_program(folder)), None)
    return str(error.value)


def test_every_other_network_is_tried():
    assert set(stored("other")) == {*(name for name in NODES if "other/" in name), *IMAGES, *ALBERTS}


@pytest.mark.parametrize("name", NODES)
def test_the_first_node_that_does_not_fit_is_named(stored_program, name):
    node, why = NODES[name]
    assert refusal(stored_program(name)) == f"it is no ALBERT that we know: {node} does not fit: {why}"


@pytest.mark.parametrize("name", IMAGES)
def test_inputs_that_are_no_word_ids(stored_program, name):
    assert refusal(stored_program(name)) == (
        "its inputs are image [any, 3, 8, 8]; an ALBERT has rows of word ids, [batch, sequence]"
    )


def test_layers_that_share_nothing_are_groups(stored_program):
    """ELECTRA's generator is an ALBERT whose layers do not share their weights."""
    albert = Case(stored_program("other/electra")).albert
    assert (albert.config.num_hidden_layers, albert.config.num_hidden_groups) == (3, 3)
    assert albert.notes == ("no two of the program's 3 layers share weights, so the export has 3 groups",)


def test_the_first_tokens_state_is_a_vector_of_the_text(stored_program):
    albert = Case(stored_program("other/albert-first-token")).albert
    assert albert.head.sentence == SentenceHead(("cls",))
    assert albert.outputs.keys() == {"sentence_embedding"}


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("masked-lm", "the program has the head of sequence-classification, not of masked-lm; leave --task"),
        ("token-classification", "not of token-classification; leave --task out"),
    ],
)
def test_a_head_that_the_program_has_not(stored_program, task, words):
    one = Case(stored_program("torch-script/sequence-classification"))
    with pytest.raises(ExportError, match=words):
        take_albert(one.graph, task)


def test_the_encoder_without_its_head(stored_program):
    one = Case(stored_program("torch-script/sequence-classification"))
    albert = take_albert(one.graph, "model")
    assert albert.head.task == "model" and albert.config.add_pooling_layer
    assert albert.outputs == {} and albert.left_out == {"logits": "it is a linear map of the pooled output"}


# ---- Programs that are nearly an ALBERT


class WordsAgain(Program):
    def embedding_sum(self):
        words = self.words()
        rest = self.add("Add", self.types(), self.positions())
        return self.add("Add", self.add("Add", words, rest), words, name="again")


class PositionsAgain(Program):
    def embedding_sum(self):
        positions = self.positions()
        rest = self.add("Add", self.words(), self.types())
        return self.add("Add", self.add("Add", rest, positions), positions, name="again")


class SecondTable(Program):
    """A table of shapes of characters, say, by word ids."""

    def types(self):
        table = np.linspace(-1, 1, CONFIG.vocab_size * CONFIG.embedding_size)
        return self.add("Gather", table.reshape(CONFIG.vocab_size, -1), "input_ids", name="shapes")


class Relu6(Program):
    def activation(self, x):
        return self.add("Clip", self.add("Relu", x), 0.0, 6.0, name="cut")


class CutGelu(Program):
    def activation(self, x):
        return self.add("Clip", super().activation(x), -10.0, 10.0, name="cut")


class CutEmbeddings(Program):
    def embeddings(self):
        return self.add("Clip", super().embeddings(), -6.0, 6.0, name="cut")


class OtherHeads(Program):
    """Its last layer has three heads of two columns, the others two heads of three."""

    sizes = (HEADS, SIZE)

    def layer(self, x, number):
        if number == CONFIG.num_hidden_layers - 1:
            self.sizes = (SIZE, HEADS)
        return super().layer(x, number)

    def heads_reshape(self, x):
        return self.add("Transpose", self.add("Reshape", x, [0, 0, *self.sizes]), perm=[0, 2, 1, 3])

    def scale_scores(self, q, k):
        return self.add("Div", self.product(q, k), math.sqrt(self.sizes[1]))


AGAIN = r"again \d+ \(Add\) does not fit: it adds embeddings a second time"
CUT = r"cut \d+ \(Clip\) does not fit: "


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (WordsAgain, AGAIN),
        (PositionsAgain, AGAIN),
        (SecondTable, r"shapes \d+ \(Gather\) does not fit: it looks up input_ids in a second table"),
        (Relu6, CUT),
        (CutGelu, CUT),
        (CutEmbeddings, CUT),
        (OtherHeads, r"\w+ \d+ \(\w+\) does not fit: 3 heads follow 2"),
    ],
    ids=lambda one: one.__name__ if isinstance(one, type) else "",
)
def test_what_no_albert_computes(tmp_path, kind, why):
    path = save(tmp_path, kind({}))
    with pytest.raises(ExportError, match=f"^it is no ALBERT that we know: {why}"):
        take_albert(read_program(path), None)
    onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])  # and yet it is sound
