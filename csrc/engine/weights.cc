#include "engine/weights.h"

#include <algorithm>
#include <stdexcept>

#include "engine/checksum.h"
#include "engine/cpu.h"

namespace albert {

namespace {

// What the arena holds, in order. Adding an entry finds its tensors in the file by name, checks their shapes against the config,
// and assigns an offset. pack() then fills an arena from the file, and bind() points the members of Weights into it.
class TensorList {
 public:
  TensorList(const MappedFile& file, const TensorTable& tensors, int panel_columns)
      : file_(file), tensors_(tensors), panel_columns_(panel_columns) {}

  bool has(const std::string& name) const { return tensors_.contains(name); }

  // The columns of a matrix whose width is not in the config.
  int columns(const std::string& name) const {
    const std::vector<uint64_t>& shape = find(name).shape;
    if (shape.size() != 2 || shape[1] < 1 || shape[1] > kMaxSize)
      throw std::invalid_argument("tensor " + name + " is not a matrix of a usable size");
    return static_cast<int>(shape[1]);
  }

  // A lookup table; in int8 it has a scale for each row.
  FileMatrix table(const std::string& name, int rows, int columns) const { return matrix(name, rows, columns, true); }

  void add(const float*& member, const std::string& name, std::initializer_list<int> shape) {
    floats_.push_back({.offset = bytes_, .member = &member, .stored = floats(name, shape)});
    bytes_ += whole_cache_lines(floats_.back().stored.count * sizeof(float));
  }

  void add(NormWeights& member, const std::string& name, int columns) {
    add(member.scale, name + ".weight", {columns});
    add(member.shift, name + ".bias", {columns});
  }

  // Linear maps [inner_dim, columns] side by side; each has a name.weight and a name.bias.
  void add(PackedMatrix& member, std::initializer_list<std::string> names, int inner_dim, int columns,
           Precision precision = Precision::fp32) {
    MatrixEntry& entry = add_matrix(member, inner_dim, static_cast<int>(names.size()) * columns, precision);
    for (const std::string& name : names)
      entry.maps.push_back({matrix(name + ".weight", inner_dim, columns, false), floats(name + ".bias", {columns})});
  }

  // The transpose of the table `name` [columns, inner_dim], and a bias.
  void add_transposed(PackedMatrix& member, const std::string& name, const std::string& bias, int inner_dim, int columns) {
    MatrixEntry& entry = add_matrix(member, inner_dim, columns, Precision::fp32);
    entry.maps.push_back({table(name, columns, inner_dim), floats(bias, {columns}), true});
  }

  size_t bytes() const { return bytes_; }
  size_t matrix_bytes() const { return matrix_bytes_; }

  void pack(ThreadTeam& team, std::byte* arena) const {
    for (const FloatEntry& entry : floats_) entry.stored.read(reinterpret_cast<float*>(arena + entry.offset));
    for (const MatrixEntry& entry : matrices_) {
      PackedMatrix packed = *entry.member;
      packed.place(arena + entry.offset);
      packed.clear();
      int column = 0;
      for (const auto& [weight, bias, transposed] : entry.maps) {
        transposed ? packed.pack_transposed(weight) : packed.pack(team, weight, column);
        bias.read(packed.bias() + column);
        column += static_cast<int>(bias.count);
        file_.drop_pages();  // or the weights would be resident twice
      }
    }
  }

  void bind(std::byte* arena) const {
    for (const FloatEntry& entry : floats_) *entry.member = reinterpret_cast<const float*>(arena + entry.offset);
    for (const MatrixEntry& entry : matrices_) entry.member->place(arena + entry.offset);
  }

 private:
  struct FloatEntry {
    size_t offset;  // in the arena
    const float** member;
    FileValues stored;
  };
  struct LinearMap {
    FileMatrix weight;
    FileValues bias;
    bool transposed = false;
  };
  struct MatrixEntry {
    size_t offset;
    PackedMatrix* member;
    std::vector<LinearMap> maps;  // side by side
  };

  MatrixEntry& add_matrix(PackedMatrix& member, int inner_dim, int columns, Precision precision) {
    member = PackedMatrix(inner_dim, columns, panel_columns_, precision);
    matrices_.push_back({.offset = bytes_, .member = &member, .maps = {}});
    bytes_ += member.placed_bytes();
    matrix_bytes_ += member.bytes();
    return matrices_.back();
  }

  const TensorEntry& find(const std::string& name) const {
    const auto entry = tensors_.find(name);
    if (entry == tensors_.end()) throw std::invalid_argument("tensor " + name + " is missing");
    return entry->second;
  }

  FileValues values(const std::string& name, std::initializer_list<int> shape) const {
    const TensorEntry& entry = find(name);
    if (entry.shape != std::vector<uint64_t>(shape.begin(), shape.end()))
      throw std::invalid_argument("tensor " + name + " has another shape than the config demands");
    size_t count = 1;
    for (const int size : shape) count *= static_cast<size_t>(size);
    return {file_.bytes(entry.offset, count * size_of(entry.type)), entry.type, count};
  }

  FileValues floats(const std::string& name, std::initializer_list<int> shape) const {
    const FileValues stored = values(name, shape);
    if (stored.type == DType::int8) throw std::invalid_argument("tensor " + name + " cannot be int8");
    return stored;
  }

  FileMatrix matrix(const std::string& name, int rows, int columns, bool scale_per_row) const {
    FileMatrix matrix{
        .values = values(name, {rows, columns}), .columns = static_cast<size_t>(columns), .scale_per_row = scale_per_row};
    if (matrix.values.type != DType::int8) return matrix;
    const FileValues scale = values(name + "_scale", {scale_per_row ? rows : columns});
    if (scale.type != DType::float32) throw std::invalid_argument("tensor " + name + "_scale must be float32");
    matrix.scale = scale.first;
    return matrix;
  }

  const MappedFile& file_;
  const TensorTable& tensors_;
  const int panel_columns_;
  std::vector<FloatEntry> floats_;
  std::vector<MatrixEntry> matrices_;
  size_t bytes_ = 0, matrix_bytes_ = 0;
};

void add_tensors(TensorList& list, Weights& w, const ModelConfig& c, const HeadConfig& heads) {
  const int e = c.embedding_size, h = c.hidden_size, i = c.intermediate_size;
  list.add(w.position_embeddings, "embeddings.position_embeddings.weight", {c.max_position_embeddings, e});
  list.add(w.token_type_embeddings, "embeddings.token_type_embeddings.weight", {c.type_vocab_size, e});
  list.add(w.embedding_norm, "embeddings.layer_norm", e);
  list.add(w.mapping_in, {"encoder.embedding_hidden_mapping_in"}, e, h);

  // All at once: the list keeps addresses of their members.
  w.groups.resize(static_cast<size_t>(c.num_hidden_groups));
  for (int group = 0; group < c.num_hidden_groups; ++group) {
    std::vector<LayerWeights>& layers = w.groups[static_cast<size_t>(group)];
    layers.resize(static_cast<size_t>(c.inner_group_num));
    for (int inner = 0; inner < c.inner_group_num; ++inner) {
      const std::string name =
          "encoder.albert_layer_groups." + std::to_string(group) + ".albert_layers." + std::to_string(inner) + ".";
      const std::string attention = name + "attention.";
      LayerWeights& layer = layers[static_cast<size_t>(inner)];
      list.add(layer.qkv, {attention + "query", attention + "key", attention + "value"}, h, h, w.precision);
      list.add(layer.dense, {attention + "dense"}, h, h, w.precision);
      list.add(layer.attention_norm, attention + "layer_norm", h);
      list.add(layer.ffn, {name + "ffn"}, h, i, w.precision);
      list.add(layer.ffn_output, {name + "ffn_output"}, i, h, w.precision);
      list.add(layer.full_norm, name + "full_layer_layer_norm", h);
    }
  }

  const auto add_classifier = [&](PackedMatrix& member, const std::string& name) {
    if (!name.empty()) list.add(member, {name}, h, list.columns(name + ".weight"));
  };
  if (c.add_pooling_layer) list.add(w.pooler, {"pooler"}, h, h);
  add_classifier(w.token_classifier, heads.token_classifier);
  add_classifier(w.pooled_classifier, heads.pooled_classifier);
  if (heads.vocabulary) {
    const bool tied = !list.has("predictions.decoder.weight");
    list.add(w.vocabulary.dense, {"predictions.dense"}, h, e);
    list.add(w.vocabulary.norm, "predictions.layer_norm", e);
    list.add_transposed(w.vocabulary.decoder, tied ? "embeddings.word_embeddings.weight" : "predictions.decoder.weight",
                        "predictions.bias", e, c.vocab_size);
  }
}

// All CPUs: the caller waits for the packing.
int packing_threads() { return std::min(whole_cpus(usable_cpus()), ThreadTeamPool::kMaxThreads); }

uint64_t checksum(ThreadTeam& team, const FileMatrix& table) {
  const FileValues& values = table.values;
  const uint64_t sum = checksum(team, values.first, values.count * size_of(values.type));
  return table.scale == nullptr ? sum : checksum(team, table.scale, values.count / table.columns * sizeof(float), sum);
}

}  // namespace

Weights::Weights(const std::string& path, const TensorTable& tensors, const ModelConfig& c, const HeadConfig& heads,
                 int panel_columns, Precision layer_precision, const PackedCache& cache)
    : file(path), precision(layer_precision) {
  TensorList list(file, tensors, panel_columns);
  word_embeddings = list.table("embeddings.word_embeddings.weight", c.vocab_size, c.embedding_size);
  add_tensors(list, *this, c, heads);
  packed_bytes = list.matrix_bytes();
  {
    const ThreadTeamPool::Lease team(ThreadTeamPool::instance(), packing_threads());
    const bool cached = !cache.file.path.empty();
    arena = std::make_unique<Arena>(cache.file, list.bytes(), cached ? checksum(*team, word_embeddings) : 0);
    found = arena->find(*team);
    if (cached) file.drop_pages();
  }
  if (!found) {
    if (cache.before_packing) cache.before_packing();
    const ThreadTeamPool::Lease team(ThreadTeamPool::instance(), packing_threads());
    arena->reserve();
    list.pack(*team, arena->data());
    arena->publish(*team);
  }
  list.bind(arena->data());
}

}  // namespace albert
