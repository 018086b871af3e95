#include "engine/weights.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace albert {

PackedMatrix::PackedMatrix(int depth, int columns, int panel_columns)
    : depth_(depth), columns_(columns), panel_columns_(panel_columns) {
  data_ = allocate_floats(bytes() / sizeof(float));
  const auto padded = static_cast<size_t>(panels()) * static_cast<size_t>(panel_columns);
  bias_ = allocate_floats(padded);
  std::fill_n(bias_.get(), padded, 0.0f);
}

int PackedMatrix::width(int panel) const { return std::min(panel_columns_, (columns_ - panel * panel_columns_ + 15) / 16 * 16); }

size_t PackedMatrix::offset(int panel) const {  // every panel before it is a full one
  return static_cast<size_t>(panel) * static_cast<size_t>(panel_columns_) * static_cast<size_t>(depth_);
}

const float* PackedMatrix::panel(int index) const { return data_.get() + offset(index); }

size_t PackedMatrix::bytes() const {
  return (offset(panels() - 1) + static_cast<size_t>(depth_) * static_cast<size_t>(width(panels() - 1))) * sizeof(float);
}

void PackedMatrix::place(const std::byte* w, int columns, int first_column) {
  const int end = first_column + columns;
  for (int column = first_column; column < end;) {
    const int panel = column / panel_columns_, inside = column % panel_columns_, panel_width = width(panel);
    const int count = std::min(panel_width - inside, end - column);
    float* to = data_.get() + offset(panel) + inside;
    const std::byte* from = w + static_cast<size_t>(column - first_column) * sizeof(float);
    // The last columns of the matrix are followed by zeros up to the panel's width.
    const int zeros = end == columns_ && column + count == end ? panel_width - inside - count : 0;
    for (int k = 0; k < depth_; ++k, to += panel_width, from += static_cast<size_t>(columns) * sizeof(float)) {
      std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
      std::fill_n(to + count, zeros, 0.0f);
    }
    column += count;
  }
}

void PackedMatrix::place_transposed(const std::byte* w) {
  std::vector<float> column(static_cast<size_t>(depth_));
  for (int c = 0; c < panels() * panel_columns_; ++c) {
    const int panel = c / panel_columns_, inside = c % panel_columns_, panel_width = width(panel);
    if (inside >= panel_width) continue;
    if (c < columns_)
      std::memcpy(column.data(), w + static_cast<size_t>(c) * column.size() * sizeof(float), column.size() * sizeof(float));
    else
      std::fill(column.begin(), column.end(), 0.0f);
    float* to = data_.get() + offset(panel) + inside;
    for (size_t k = 0; k < column.size(); ++k) to[k * static_cast<size_t>(panel_width)] = column[k];
  }
}

namespace {

// Reads tensors by name, checked against the shapes that the config demands.
class Reader {
 public:
  Reader(const MappedFile& file, const TensorTable& tensors) : file_(file), tensors_(tensors) {}

  const std::byte* bytes(const std::string& name, std::initializer_list<int> shape) const {
    const auto entry = tensors_.find(name);
    if (entry == tensors_.end()) throw std::invalid_argument("tensor " + name + " is missing");
    const TensorPlace& place = entry->second;
    const bool same = std::equal(shape.begin(), shape.end(), place.shape.begin(), place.shape.end(),
                                 [](int expected, uint64_t found) { return static_cast<uint64_t>(expected) == found; });
    if (!same) throw std::invalid_argument("tensor " + name + " has another shape than the config demands");
    uint64_t length = sizeof(float);
    for (const int size : shape) length *= static_cast<uint64_t>(size);
    return file_.bytes(place.offset, length);
  }

  // The columns of the matrix `name`, which only its tensor knows.
  int columns(const std::string& name) const {
    const auto entry = tensors_.find(name);
    if (entry == tensors_.end()) throw std::invalid_argument("tensor " + name + " is missing");
    const std::vector<uint64_t>& shape = entry->second.shape;
    if (shape.size() != 2 || shape[1] < 1 || shape[1] > kLargestSize)
      throw std::invalid_argument("tensor " + name + " is not a matrix of a usable size");
    return static_cast<int>(shape[1]);
  }

  void read(float* to, const std::string& name, std::initializer_list<int> shape) const {
    size_t count = 1;
    for (const int size : shape) count *= static_cast<size_t>(size);
    std::memcpy(to, bytes(name, shape), count * sizeof(float));
  }

  FloatBlock block(const std::string& name, std::initializer_list<int> shape) const {
    size_t count = 1;
    for (const int size : shape) count *= static_cast<size_t>(size);
    FloatBlock block = allocate_floats(count);
    read(block.get(), name, shape);
    return block;
  }

  NormWeights norm(const std::string& name, int columns) const {
    return {block(name + ".weight", {columns}), block(name + ".bias", {columns})};
  }

  // name.weight [depth, columns] and name.bias go to the columns from first_column on.
  void linear(PackedMatrix& to, const std::string& name, int columns, int first_column = 0) const {
    to.place(bytes(name + ".weight", {to.depth(), columns}), columns, first_column);
    read(to.bias() + first_column, name + ".bias", {columns});
    file_.drop_pages();  // what is packed need not stay resident twice
  }

 private:
  const MappedFile& file_;
  const TensorTable& tensors_;
};

}  // namespace

Weights::Weights(const std::string& path, const TensorTable& tensors, const ModelConfig& c, const HeadConfig& heads,
                 int panel_columns)
    : file(path) {
  const Reader reader(file, tensors);
  const int e = c.embedding_size, h = c.hidden_size, i = c.intermediate_size;
  embedding_size = e;
  word_embeddings = reader.bytes("embeddings.word_embeddings.weight", {c.vocab_size, e});
  position_embeddings = reader.block("embeddings.position_embeddings.weight", {c.max_position_embeddings, e});
  token_type_embeddings = reader.block("embeddings.token_type_embeddings.weight", {c.type_vocab_size, e});
  embedding_norm = reader.norm("embeddings.layer_norm", e);

  const auto pack = [&](const std::string& name, int depth, int columns) {
    PackedMatrix matrix(depth, columns, panel_columns);
    reader.linear(matrix, name, columns);
    packed_bytes += matrix.bytes();
    return matrix;
  };

  mapping_in = pack("encoder.embedding_hidden_mapping_in", e, h);
  for (int group = 0; group < c.num_hidden_groups; ++group) {
    groups.emplace_back();
    for (int inner = 0; inner < c.inner_group_num; ++inner) {
      const std::string layer =
          "encoder.albert_layer_groups." + std::to_string(group) + ".albert_layers." + std::to_string(inner) + ".";
      LayerWeights& w = groups.back().emplace_back();
      w.qkv = PackedMatrix(h, 3 * h, panel_columns);
      reader.linear(w.qkv, layer + "attention.query", h, 0);
      reader.linear(w.qkv, layer + "attention.key", h, h);
      reader.linear(w.qkv, layer + "attention.value", h, 2 * h);
      packed_bytes += w.qkv.bytes();
      w.dense = pack(layer + "attention.dense", h, h);
      w.attention_norm = reader.norm(layer + "attention.layer_norm", h);
      w.ffn = pack(layer + "ffn", h, i);
      w.ffn_output = pack(layer + "ffn_output", i, h);
      w.full_norm = reader.norm(layer + "full_layer_layer_norm", h);
    }
  }
  if (c.add_pooling_layer) pooler = pack("pooler", h, h);

  const auto pack_classifier = [&](const std::string& name) { return pack(name, h, reader.columns(name + ".weight")); };
  if (!heads.token_classifier.empty()) token_classifier = pack_classifier(heads.token_classifier);
  if (!heads.pooled_classifier.empty()) pooled_classifier = pack_classifier(heads.pooled_classifier);
  if (heads.vocabulary) {
    const bool tied = !tensors.contains("predictions.decoder.weight");
    vocabulary.dense = pack("predictions.dense", h, e);
    vocabulary.norm = reader.norm("predictions.layer_norm", e);
    vocabulary.decoder = PackedMatrix(e, c.vocab_size, panel_columns);
    vocabulary.decoder.place_transposed(
        reader.bytes(tied ? "embeddings.word_embeddings.weight" : "predictions.decoder.weight", {c.vocab_size, e}));
    reader.read(vocabulary.decoder.bias(), "predictions.bias", {c.vocab_size});
    packed_bytes += vocabulary.decoder.bytes();
    file.drop_pages();
  }
}

}  // namespace albert
