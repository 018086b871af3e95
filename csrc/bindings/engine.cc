#include "engine/engine.h"

#include <pybind11/stl.h>

#include <memory>

#include "bindings/bindings.h"

namespace py = pybind11;
using albert::Activation;
using albert::Engine;

namespace {

Activation hidden_activation(const std::string& name) {
  if (name == "gelu") return Activation::gelu;
  if (name == "gelu_new") return Activation::gelu_tanh;
  if (name == "relu") return Activation::relu;
  throw std::invalid_argument("hidden_act must be gelu, gelu_new or relu, not '" + name + "'");
}

std::unique_ptr<Engine> make_engine(const std::string& weights_path,
                                    const std::map<std::string, std::pair<uint64_t, std::vector<uint64_t>>>& tensors,
                                    const std::string& isa, const std::string& hidden_act, albert::ModelConfig config) {
  config.hidden_act = hidden_activation(hidden_act);
  albert::TensorTable table;
  for (const auto& [name, place] : tensors) table[name] = {place.first, place.second};
  const py::gil_scoped_release unlocked;
  return std::make_unique<Engine>(weights_path, table, config, albert::kernels_for(isa));
}

void run(const Engine& engine, const IntArray& input_ids, const IntArray& positions, const IntArray& token_type_ids,
         const IntArray& row_starts, const IntArray& first_key, std::optional<FloatArray> hidden, std::optional<FloatArray> pooled,
         int num_threads) {
  demand_shape(row_starts, "row_starts", {-1});
  const py::ssize_t rows = row_starts.size() - 1;
  if (rows < 1) throw std::invalid_argument("row_starts must have at least two entries");
  demand_shape(first_key, "first_key", {rows});
  const py::ssize_t tokens = row_starts.data()[rows];
  demand_shape(input_ids, "input_ids", {tokens});
  demand_shape(positions, "positions", {tokens});
  demand_shape(token_type_ids, "token_type_ids", {tokens});
  for (py::ssize_t row = 0; row < rows; ++row)
    if (row_starts.data()[row] > row_starts.data()[row + 1]) throw std::invalid_argument("row_starts must not decrease");
  const py::ssize_t h = engine.config().hidden_size;
  if (hidden) demand_shape(*hidden, "hidden", {rows, -1, h});
  if (pooled) demand_shape(*pooled, "pooled", {rows, h});

  const albert::PackedTokens packed{.input_ids = input_ids.data(),
                                    .positions = positions.data(),
                                    .token_type_ids = token_type_ids.data(),
                                    .row_starts = row_starts.data(),
                                    .first_key = first_key.data(),
                                    .rows = static_cast<int>(rows)};
  const albert::Outputs outputs{.hidden = hidden ? hidden->mutable_data() : nullptr,
                                .width = hidden ? static_cast<int>(hidden->shape(1)) : 0,
                                .pooled = pooled ? pooled->mutable_data() : nullptr};
  const py::gil_scoped_release unlocked;
  engine.run(packed, outputs, num_threads);
}

}  // namespace

void register_engine(py::module_& module) {
  py::class_<Engine>(module, "Engine", "A model packed for one ISA. Immutable; any number of threads may run it at the same time.")
      .def(py::init([](const std::string& weights_path,
                       const std::map<std::string, std::pair<uint64_t, std::vector<uint64_t>>>& tensors, const std::string& isa,
                       int vocab_size, int embedding_size, int hidden_size, int num_hidden_layers, int num_hidden_groups,
                       int inner_group_num, int num_attention_heads, int intermediate_size, const std::string& hidden_act,
                       int max_position_embeddings, int type_vocab_size, float layer_norm_eps, int padding_idx,
                       bool add_pooling_layer) {
             return make_engine(weights_path, tensors, isa, hidden_act,
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
                                 .add_pooling_layer = add_pooling_layer});
           }),
           py::arg("weights_path"), py::arg("tensors"), py::kw_only(), py::arg("isa"), py::arg("vocab_size"),
           py::arg("embedding_size"), py::arg("hidden_size"), py::arg("num_hidden_layers"), py::arg("num_hidden_groups"),
           py::arg("inner_group_num"), py::arg("num_attention_heads"), py::arg("intermediate_size"), py::arg("hidden_act"),
           py::arg("max_position_embeddings"), py::arg("type_vocab_size"), py::arg("layer_norm_eps"), py::arg("padding_idx"),
           py::arg("add_pooling_layer"),
           "Packs the tensors {name: (byte offset, shape)} of the weight file. Raises OSError for the file, ValueError for a "
           "config or "
           "tensors that do not fit together.")
      .def("run", &run, py::arg("input_ids").noconvert(), py::arg("positions").noconvert(), py::arg("token_type_ids").noconvert(),
           py::arg("row_starts").noconvert(), py::arg("first_key").noconvert(), py::arg("hidden").noconvert(),
           py::arg("pooled").noconvert(), py::arg("num_threads"),
           "Runs packed int32 tokens; fills hidden [B, T, H] (zeros wherever there is no token are the caller's) and pooled [B, "
           "H], each "
           "float32 or None. Releases the GIL. Raises ValueError for inconsistent tokens.")
      .def_property_readonly("isa", [](const Engine& engine) { return engine.kernels().isa; })
      .def_property_readonly("packed_bytes", &Engine::packed_bytes, "Bytes of packed weights.");
}
