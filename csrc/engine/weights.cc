#include "engine/weights.h"

#include <algorithm>
#include <stdexcept>

#include "engine/checksum.h"
#include "engine/cpu.h"

namespace albert {

// Gives every tensor its piece, and fills it from the file if there is a team to do so. Tensors are found by name, and checked
// against the shapes that the config demands in any case.
class Packer {
 public:
  Packer(const MappedFile& file, const TensorTable& tensors, int panel_columns, Pieces& pieces, ThreadTeam* team = nullptr)
      : file_(file), tensors_(tensors), panel_columns_(panel_columns), pieces_(pieces), team_(team) {}

  // A matrix [in, out], with scales of its columns where it is int8.
  FileMatrix matrix(const std::string& name, int rows, int columns) const { return scaled(name, rows, columns, false); }

  // A table to look up rows in, with scales of those.
  FileMatrix table(const std::string& name, int rows, int columns) const { return scaled(name, rows, columns, true); }

  bool has(const std::string& name) const { return tensors_.contains(name); }

  // The columns of the matrix `name`, which only its tensor knows.
  int columns(const std::string& name) const {
    const auto entry = tensors_.find(name);
    if (entry == tensors_.end()) throw std::invalid_argument("tensor " + name + " is missing");
    const std::vector<uint64_t>& shape = entry->second.shape;
    if (shape.size() != 2 || shape[1] < 1 || shape[1] > kMaxSize)
      throw std::invalid_argument("tensor " + name + " is not a matrix of a usable size");
    return static_cast<int>(shape[1]);
  }

  const float* floats(const std::string& name, std::initializer_list<int> shape) {
    size_t count = 1;
    for (const int size : shape) count *= static_cast<size_t>(size);
    float* const piece = pieces_.take<float>(count);
    read(piece, name, shape);
    return piece;
  }

  NormWeights norm(const std::string& name, int columns) {
    return {floats(name + ".weight", {columns}), floats(name + ".bias", {columns})};
  }

  // Linear maps [inner_dim, columns] side by side, each name.weight and name.bias.
  PackedMatrix linear(std::initializer_list<std::string> names, int inner_dim, int columns, Precision precision = Precision::fp32) {
    PackedMatrix packed = empty(inner_dim, static_cast<int>(names.size()) * columns, precision);
    int first_column = 0;
    for (const std::string& name : names) {
      const FileMatrix stored = matrix(name + ".weight", inner_dim, columns);
      if (team_ != nullptr) packed.pack(*team_, stored, first_column);
      read(packed.bias() + first_column, name + ".bias", {columns});
      first_column += columns;
      drop_pages();
    }
    return packed;
  }

  PackedMatrix linear(const std::string& name, int inner_dim, int columns, Precision precision = Precision::fp32) {
    return linear({name}, inner_dim, columns, precision);
  }

  // The transpose of the table `name` [columns, inner_dim], with a bias.
  PackedMatrix transposed(const std::string& name, const std::string& bias, int inner_dim, int columns) {
    PackedMatrix packed = empty(inner_dim, columns, Precision::fp32);
    const FileMatrix stored = table(name, columns, inner_dim);
    if (team_ != nullptr) packed.pack_transposed(stored);
    read(packed.bias(), bias, {columns});
    drop_pages();
    return packed;
  }

 private:
  PackedMatrix empty(int inner_dim, int columns, Precision precision) {
    PackedMatrix packed(pieces_, inner_dim, columns, panel_columns_, precision);
    if (team_ != nullptr) packed.clear();
    return packed;
  }

  FileValues values(const std::string& name, std::initializer_list<int> shape) const {
    const auto entry = tensors_.find(name);
    if (entry == tensors_.end()) throw std::invalid_argument("tensor " + name + " is missing");
    const TensorEntry& place = entry->second;
    const bool same = std::equal(shape.begin(), shape.end(), place.shape.begin(), place.shape.end(),
                                 [](int expected, uint64_t found) { return static_cast<uint64_t>(expected) == found; });
    if (!same) throw std::invalid_argument("tensor " + name + " has another shape than the config demands");
    uint64_t length = size_of(place.type);
    for (const int size : shape) length *= static_cast<uint64_t>(size);
    return {file_.bytes(place.offset, length), place.type};
  }

  FileMatrix scaled(const std::string& name, int rows, int columns, bool scale_per_row) const {
    FileMatrix matrix{
        .values = values(name, {rows, columns}), .columns = static_cast<size_t>(columns), .scale_per_row = scale_per_row};
    if (matrix.values.type != DType::int8) return matrix;
    const FileValues scale = values(name + "_scale", {scale_per_row ? rows : columns});
    if (scale.type != DType::float32) throw std::invalid_argument("tensor " + name + "_scale must be float32");
    matrix.scale = scale.first;
    return matrix;
  }

  void read(float* to, const std::string& name, std::initializer_list<int> shape) const {
    size_t count = 1;
    for (const int size : shape) count *= static_cast<size_t>(size);
    const FileValues stored = values(name, shape);
    if (stored.type == DType::int8) throw std::invalid_argument("tensor " + name + " cannot be int8");
    if (team_ != nullptr) stored.read(to, count);
  }

  void drop_pages() const {  // what is packed need not stay resident twice
    if (team_ != nullptr) file_.drop_pages();
  }

  const MappedFile& file_;
  const TensorTable& tensors_;
  const int panel_columns_;
  Pieces& pieces_;
  ThreadTeam* const team_;
};

namespace {

// As many threads as there are CPUs: whoever packs waits for it.
int packing_threads() { return std::min(whole_cpus(usable_cpus()), ThreadTeamPool::kMaxThreads); }

uint64_t checksum(ThreadTeam& team, const FileMatrix& table, size_t rows) {
  const uint64_t sum = checksum(team, table.values.first, rows * table.columns * size_of(table.values.type));
  return table.scale == nullptr ? sum : checksum(team, table.scale, rows * sizeof(float), sum);
}

}  // namespace

Weights::Weights(const std::string& path, const TensorTable& tensors, const ModelConfig& c, const HeadConfig& heads,
                 int panel_columns, Precision layer_precision, const PackedCache& cache)
    : file(path), precision(layer_precision) {
  Pieces sizes;
  Packer counter(file, tensors, panel_columns, sizes);
  word_embeddings = counter.table("embeddings.word_embeddings.weight", c.vocab_size, c.embedding_size);
  lay_out(counter, c, heads);
  {
    const ThreadTeamPool::Lease team(ThreadTeamPool::instance(), packing_threads());
    const bool asked = !cache.file.path.empty();
    arena = std::make_unique<Arena>(cache.file, sizes.bytes(),
                                    asked ? checksum(*team, word_embeddings, static_cast<size_t>(c.vocab_size)) : 0);
    found = arena->find(*team);
    if (asked) file.drop_pages();
  }
  if (!found) {
    if (cache.before_packing) cache.before_packing();
    const ThreadTeamPool::Lease team(ThreadTeamPool::instance(), packing_threads());
    arena->reserve();
    Pieces pieces(arena->data());
    Packer packer(file, tensors, panel_columns, pieces, &*team);
    lay_out(packer, c, heads);
    arena->publish(*team);
  }
  Pieces pieces(arena->data());
  Packer placer(file, tensors, panel_columns, pieces);
  lay_out(placer, c, heads);
}

void Weights::lay_out(Packer& packer, const ModelConfig& c, const HeadConfig& heads) {
  const int e = c.embedding_size, h = c.hidden_size, i = c.intermediate_size;
  position_embeddings = packer.floats("embeddings.position_embeddings.weight", {c.max_position_embeddings, e});
  token_type_embeddings = packer.floats("embeddings.token_type_embeddings.weight", {c.type_vocab_size, e});
  embedding_norm = packer.norm("embeddings.layer_norm", e);
  mapping_in = packer.linear("encoder.embedding_hidden_mapping_in", e, h);
  packed_bytes = mapping_in.bytes();

  groups.clear();
  for (int group = 0; group < c.num_hidden_groups; ++group) {
    groups.emplace_back();
    for (int inner = 0; inner < c.inner_group_num; ++inner) {
      const std::string layer =
          "encoder.albert_layer_groups." + std::to_string(group) + ".albert_layers." + std::to_string(inner) + ".";
      const std::string attention = layer + "attention.";
      LayerWeights& w = groups.back().emplace_back();
      w.qkv = packer.linear({attention + "query", attention + "key", attention + "value"}, h, h, precision);
      w.dense = packer.linear(attention + "dense", h, h, precision);
      w.attention_norm = packer.norm(attention + "layer_norm", h);
      w.ffn = packer.linear(layer + "ffn", h, i, precision);
      w.ffn_output = packer.linear(layer + "ffn_output", i, h, precision);
      w.full_norm = packer.norm(layer + "full_layer_layer_norm", h);
      for (const PackedMatrix* matrix : {&w.qkv, &w.dense, &w.ffn, &w.ffn_output}) packed_bytes += matrix->bytes();
    }
  }

  // What a model lacks stays an empty matrix.
  const auto classifier = [&](const std::string& name) { return packer.linear(name, h, packer.columns(name + ".weight")); };
  if (c.add_pooling_layer) pooler = packer.linear("pooler", h, h);
  if (!heads.token_classifier.empty()) token_classifier = classifier(heads.token_classifier);
  if (!heads.pooled_classifier.empty()) pooled_classifier = classifier(heads.pooled_classifier);
  if (heads.vocabulary) {
    const bool tied = !packer.has("predictions.decoder.weight");
    vocabulary.dense = packer.linear("predictions.dense", h, e);
    vocabulary.norm = packer.norm("predictions.layer_norm", e);
    vocabulary.decoder = packer.transposed(tied ? "embeddings.word_embeddings.weight" : "predictions.decoder.weight",
                                           "predictions.bias", e, c.vocab_size);
  }
  for (const PackedMatrix* matrix : {&pooler, &token_classifier, &pooled_classifier, &vocabulary.dense, &vocabulary.decoder})
    if (matrix->columns() > 0) packed_bytes += matrix->bytes();
}

}  // namespace albert
