#include "engine/engine.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string_view>
#include <tuple>

#include "bindings/bindings.h"

namespace py = pybind11;
using albert::Activation;
using albert::Engine;

namespace {

using Tensors = std::map<std::string, std::tuple<std::string, uint64_t, std::vector<uint64_t>>>;  // (dtype, offset, shape)

std::unique_ptr<Engine> make_engine(const std::string& weights_path, const Tensors& tensors, const std::string& isa,
                                    const std::string& precision, const std::string& hidden_act, albert::ModelConfig config,
                                    const albert::HeadConfig& heads, const std::string& cache_path, const py::bytes& cache_key,
                                    const std::optional<py::function>& before_packing) {
  config.hidden_act = from_name(kHiddenActNames, "hidden_act", hidden_act);
  const albert::Precision type = precision_from_name(precision);
  albert::TensorTable table;
  for (const auto& [name, tensor] : tensors) {
    const auto& [dtype, offset, shape] = tensor;
    table[name] = {from_name(kDTypeNames, "tensors", dtype), offset, shape};
  }
  albert::PackedCache cache{.file = {.path = cache_path}};
  const std::string_view key = cache_key;
  if (!cache_path.empty() && key.size() != cache.file.key.size()) throw std::invalid_argument("cache_key must have 32 bytes");
  std::memcpy(cache.file.key.data(), key.data(), std::min(key.size(), cache.file.key.size()));
  if (before_packing)
    cache.before_packing = [&before_packing] {
      const py::gil_scoped_acquire locked;
      (*before_packing)();
    };
  const py::gil_scoped_release unlocked;
  return std::make_unique<Engine>(weights_path, table, config, heads, type, albert::kernels_for(isa), cache);
}

// Two threads would write the same row at once if two tokens shared a slot.
void check_slots(const IntArray& slots, py::ssize_t rows) {
  thread_local std::vector<bool> taken;
  taken.assign(static_cast<size_t>(rows), false);
  for (py::ssize_t i = 0; i < slots.size(); ++i) {
    const int32_t slot = slots.data()[i];
    if (slot < 0 || slot >= rows || taken[static_cast<size_t>(slot)])
      throw std::invalid_argument("score_slots must be different rows of scores");
    taken[static_cast<size_t>(slot)] = true;
  }
}

void run(const Engine& engine, const IntArray& input_ids, const IntArray& positions, const IntArray& token_type_ids,
         const IntArray& row_starts, const IntArray& masked_first, std::optional<FloatArray> hidden,
         std::optional<FloatArray> pooled, int num_threads, std::optional<FloatArray> hidden_states,
         std::optional<FloatArray> token_logits, std::optional<FloatArray> pooled_logits, std::optional<FloatArray> scores,
         const std::optional<IntArray>& score_tokens, const std::optional<IntArray>& score_slots) {
  demand_shape(row_starts, "row_starts", {-1});
  const py::ssize_t rows = row_starts.size() - 1;
  if (rows < 1) throw std::invalid_argument("row_starts must have at least two entries");
  demand_shape(masked_first, "masked_first", {rows});
  const py::ssize_t tokens = row_starts.data()[rows];
  demand_shape(input_ids, "input_ids", {tokens});
  demand_shape(positions, "positions", {tokens});
  demand_shape(token_type_ids, "token_type_ids", {tokens});
  for (py::ssize_t row = 0; row < rows; ++row)
    if (row_starts.data()[row] > row_starts.data()[row + 1]) throw std::invalid_argument("row_starts must not decrease");
  const py::ssize_t h = engine.config().hidden_size;
  if (pooled) demand_shape(*pooled, "pooled", {rows, h});
  py::ssize_t width = -1;  // T; unknown until an output has it
  const auto demand_tokens = [&](const std::optional<FloatArray>& array, const char* name, std::vector<py::ssize_t> inner) {
    if (!array) return;
    inner.insert(inner.begin(), {rows, width});
    demand_shape(*array, name, inner);
    width = array->shape(1);
  };
  demand_tokens(hidden, "hidden", {h});
  demand_tokens(hidden_states, "hidden_states", {engine.config().num_hidden_layers + 1, h});
  demand_tokens(token_logits, "token_logits", {engine.token_labels()});
  if (pooled_logits) demand_shape(*pooled_logits, "pooled_logits", {rows, engine.pooled_labels()});
  if (scores.has_value() != score_tokens.has_value() || scores.has_value() != score_slots.has_value())
    throw std::invalid_argument("scores, score_tokens and score_slots must be given together");
  if (scores) {
    demand_shape(*scores, "scores", {-1, engine.config().vocab_size});
    demand_shape(*score_tokens, "score_tokens", {-1});
    demand_shape(*score_slots, "score_slots", {score_tokens->size()});
    check_slots(*score_slots, scores->shape(0));
  }
  const auto address = [](std::optional<FloatArray>& array) { return array ? array->mutable_data() : nullptr; };

  // Copied, because once the GIL is released another thread may write to arrays that have been checked. The memory is kept for this
  // thread's next run, so that a run allocates nothing.
  thread_local std::vector<int32_t> kept;
  const py::ssize_t chosen = scores ? score_tokens->size() : 0;
  const auto needed = static_cast<size_t>(input_ids.size() + positions.size() + token_type_ids.size() + row_starts.size() +
                                          masked_first.size() + 2 * chosen);
  if (kept.size() < needed) kept.resize(needed);
  int32_t* next = kept.data();
  const auto copy = [&next](const IntArray& array) {
    int32_t* const first = next;
    next = std::copy_n(array.data(), array.size(), first);
    return first;
  };
  const albert::PackedTokens packed{.input_ids = copy(input_ids),
                                    .positions = copy(positions),
                                    .token_type_ids = copy(token_type_ids),
                                    .row_starts = copy(row_starts),
                                    .masked_first = copy(masked_first),
                                    .rows = static_cast<int>(rows)};
  const albert::Outputs outputs{.hidden = address(hidden),
                                .states = address(hidden_states),
                                .width = static_cast<int>(std::max<py::ssize_t>(width, 0)),
                                .pooled = address(pooled),
                                .token_logits = address(token_logits),
                                .pooled_logits = address(pooled_logits),
                                .scores = address(scores),
                                .score_tokens = scores ? copy(*score_tokens) : nullptr,
                                .score_slots = scores ? copy(*score_slots) : nullptr,
                                .score_count = static_cast<int>(chosen)};
  const py::gil_scoped_release unlocked;
  engine.run(packed, outputs, num_threads);
}

}  // namespace

void register_engine(py::module_& module) {
  py::class_<Engine>(module, "Engine", "A model packed for one ISA. Immutable; any number of threads may run it at the same time.")
      .def(py::init([](const std::string& weights_path, const Tensors& tensors, const std::string& isa, int vocab_size,
                       int embedding_size, int hidden_size, int num_hidden_layers, int num_hidden_groups, int inner_group_num,
                       int num_attention_heads, int intermediate_size, const std::string& hidden_act, int max_position_embeddings,
                       int type_vocab_size, float layer_norm_eps, int padding_idx, bool add_pooling_layer,
                       const std::string& token_classifier, const std::string& pooled_classifier, bool vocabulary_head,
                       float decoder_norm_eps, const std::string& precision, const std::string& cache_path,
                       const py::bytes& cache_key, const std::optional<py::function>& before_packing) {
             return make_engine(weights_path, tensors, isa, precision, hidden_act,
                                {.vocab_size = vocab_size,
                                 .embedding_size = embedding_size,
                                 .hidden_size = hidden_size,
                                 .num_hidden_layers = num_hidden_layers,
                                 .num_hidden_groups = num_hidden_groups,
                                 .inner_group_num = inner_group_num,
                                 .num_attention_heads = num_attention_heads,
                                 .intermediate_size = intermediate_size,
                                 .hidden_act = Activation::none,
                                 .max_position_embeddings = max_position_embeddings,
                                 .type_vocab_size = type_vocab_size,
                                 .layer_norm_eps = layer_norm_eps,
                                 .padding_idx = padding_idx,
                                 .add_pooling_layer = add_pooling_layer},
                                {.token_classifier = token_classifier,
                                 .pooled_classifier = pooled_classifier,
                                 .vocabulary = vocabulary_head,
                                 .decoder_norm_eps = decoder_norm_eps},
                                cache_path, cache_key, before_packing);
           }),
           py::arg("weights_path"), py::arg("tensors"), py::kw_only(), py::arg("isa"), py::arg("vocab_size"),
           py::arg("embedding_size"), py::arg("hidden_size"), py::arg("num_hidden_layers"), py::arg("num_hidden_groups"),
           py::arg("inner_group_num"), py::arg("num_attention_heads"), py::arg("intermediate_size"), py::arg("hidden_act"),
           py::arg("max_position_embeddings"), py::arg("type_vocab_size"), py::arg("layer_norm_eps"), py::arg("padding_idx"),
           py::arg("add_pooling_layer"), py::arg("token_classifier") = "", py::arg("pooled_classifier") = "",
           py::arg("vocabulary_head") = false, py::arg("decoder_norm_eps") = 1e-5f, py::arg("precision") = "fp32",
           py::arg("cache_path") = "", py::arg("cache_key") = py::bytes(), py::arg("before_packing") = py::none(),
           R"(Packs the weights of a model, or maps them from the cache file. Releases the GIL.

The sizes, layer_norm_eps, padding_idx and add_pooling_layer are those of the model's config. If ALBERT_PROFILE=1 is set, a
table of the time that each step took is printed to stderr when the engine is destroyed or the process exits.

Args:
    weights_path: The file that holds the tensors.
    tensors: {name: (dtype, byte offset, shape)}; dtype is "float32", "float16", "bfloat16" or "int8".
    isa: One of isas().
    hidden_act: "gelu", "gelu_new" or "relu".
    padding_idx: The token id whose word embedding is zeros, or -1.
    token_classifier: Name prefix of the linear layer that classifies each token; empty for none.
    pooled_classifier: Name prefix of the linear layer that classifies the pooled output; empty for none.
    vocabulary_head: Whether the model has a masked-language-model head.
    decoder_norm_eps: Epsilon of that head's layer normalization.
    precision: "fp32", "bf16" or "int8", of the layers' matrix products.
    cache_path: Cache file for the packed weights; empty for none. A problem with it raises nothing: see cache_problem.
    cache_key: 32 bytes, a hash of all other arguments and of this extension. Only a file with this key is used.
    before_packing: Called without arguments before weights are packed; not called if the cache file has them.

Raises:
    OSError: The weight file cannot be read.
    ValueError: The config and the tensors do not fit together, or no such ISA, hidden_act, precision or dtype.)")
      .def("run", &run, py::arg("input_ids").noconvert(), py::arg("positions").noconvert(), py::arg("token_type_ids").noconvert(),
           py::arg("row_starts").noconvert(), py::arg("masked_first").noconvert(), py::arg("hidden").noconvert(),
           py::arg("pooled").noconvert(), py::arg("num_threads"), py::kw_only(), py::arg("hidden_states").noconvert() = py::none(),
           py::arg("token_logits").noconvert() = py::none(), py::arg("pooled_logits").noconvert() = py::none(),
           py::arg("scores").noconvert() = py::none(), py::arg("score_tokens").noconvert() = py::none(),
           py::arg("score_slots").noconvert() = py::none(),
           R"(Runs the model on packed tokens and writes the outputs that are not None. Releases the GIL.

N tokens in B rows; T is the padded width, H the hidden size, L the number of layers and V the vocabulary size. Arrays must be
C-contiguous. In outputs with a T axis only the places of tokens are written, except masked first tokens; the caller fills the
others.

Args:
    input_ids: int32 [N], the tokens of all rows one after another, without padding.
    positions: int32 [N], each token's column in the padded array.
    token_type_ids: int32 [N].
    row_starts: int32 [B + 1]; row b is tokens row_starts[b] to row_starts[b + 1].
    masked_first: int32 [B], 1 where no token may attend to the row's first token, else 0.
    hidden: float32 [B, T, H], the last hidden states, or None.
    pooled: float32 [B, H], the pooled output, or None.
    num_threads: At least 1.
    hidden_states: float32 [B, T, L + 1, H], the embeddings mapped to H and then the output of each layer, or None.
    token_logits: float32 [B, T, labels], or None.
    pooled_logits: float32 [B, labels], or None.
    scores: float32 [S, V], vocabulary scores of the tokens in score_tokens, or None; given together with the next two.
    score_tokens: int32 [K], ascending indices into the packed tokens.
    score_slots: int32 [K], the row of scores for each of them; no row twice.

Raises:
    ValueError: Shapes, ids or positions are out of range, an output needs a head that the model lacks, or num_threads is
        out of range.
    TypeError: An array has another dtype or is not C-contiguous.)")
      .def_property_readonly(
          "isa", [](const Engine& engine) { return engine.kernels().isa; }, "Name of the ISA.")
      .def_property_readonly(
          "precision", [](const Engine& engine) { return name_of(engine.precision()); }, "\"fp32\", \"bf16\" or \"int8\".")
      .def_property_readonly("packed_bytes", &Engine::packed_bytes, "Size of the packed weights in bytes.")
      .def_property_readonly("found_packed", &Engine::found_packed, "Whether the cache file had the packed weights.")
      .def_property_readonly(
          "packed_file", &Engine::packed_file,
          "Path of the cache file that the packed weights are mapped from; empty if they are in this process's memory.")
      .def_property_readonly("cache_problem", &Engine::cache_problem, "Why the cache file could not be used; empty if it could.");
}
