#include "engine/weights.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "engine/cpu.h"

namespace albert {

namespace {

constexpr int kPiece = kMostPanelColumns;  // columns converted together

// Integers to the nearest, ties to even, of |x| < 2^22: the sum's last bit is worth 1.
uint32_t nearest_integer(float x) {      // in two's complement
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23
  return std::bit_cast<uint32_t>(x + kMagic) - std::bit_cast<uint32_t>(kMagic);
}

// As kernels/simd.h does it for activations.
uint32_t to_bf16(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const uint32_t magnitude = bits & 0x7fffffff, rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  if (magnitude > 0x7f800000) return bits >> 16 | 0x40;
  return magnitude < 0x00800000 ? bits >> 16 & 0x8000 : rounded;
}

// A strip of up to kPiece columns of a matrix in a file.
struct Strip {
  StoredMatrix matrix;
  size_t first_column;
  int depth, count;

  // Row k, or zeros past the end.
  void read(int k, float* to) const {
    if (k < depth)
      matrix.read(static_cast<size_t>(k), first_column, to, static_cast<size_t>(count));
    else
      std::fill_n(to, count, 0.0f);
  }
};

// to[k * width + column]: words of consecutive rows of the strip.
template <int PerWord, typename Convert>
void convert(const Strip& strip, Word* to, int width, Convert convert_value) {
  constexpr int kBits = 32 / PerWord;
  for (int k = 0; k < strip.depth; k += PerWord, to += width) {
    float rows[PerWord][kPiece];
    for (int i = 0; i < PerWord; ++i) strip.read(k + i, rows[i]);
    for (int column = 0; column < strip.count; ++column) {
      uint32_t word = 0;
      for (int i = 0; i < PerWord; ++i) word |= convert_value(rows[i][column], column) << (i * kBits);
      to[column] = word;
    }
  }
}

uint32_t to_unsigned(uint32_t integer) { return (integer + 128) & 0xff; }  // see kernels/gemm.h

// Integers that the file holds with the scales of their columns.
void copy_int8(const Strip& strip, Word* to, int width, float* scale) {
  strip.matrix.read_scale(strip.first_column, scale, static_cast<size_t>(strip.count));
  Strip integers = strip;
  integers.matrix.scale = nullptr;
  convert<4>(integers, to, width, [](float x, int) { return to_unsigned(static_cast<uint32_t>(static_cast<int32_t>(x))); });
}

void to_int8(const Strip& strip, Word* to, int width, float* scale) {
  float greatest[kPiece] = {}, factor[kPiece], row[kPiece];
  for (int k = 0; k < strip.depth; ++k) {
    strip.read(k, row);
    for (int column = 0; column < strip.count; ++column) greatest[column] = std::max(greatest[column], std::abs(row[column]));
  }
  for (int column = 0; column < strip.count; ++column) {
    const bool usable = greatest[column] >= 1e-30f;  // the inverse of less may be infinite
    factor[column] = usable ? 127.0f / greatest[column] : 0.0f;
    scale[column] = usable ? greatest[column] / 127.0f : 0.0f;
  }
  convert<4>(strip, to, width, [&](float x, int column) { return to_unsigned(nearest_integer(x * factor[column])); });
}

}  // namespace

PackedMatrix::PackedMatrix(int depth, int columns, int panel_columns, Precision precision)
    : precision_(precision), depth_(depth), columns_(columns), panel_columns_(panel_columns) {
  if (precision == Precision::int8 && depth > kLargestInt8Depth)
    throw std::invalid_argument("int8 sums of " + std::to_string(depth) + " products could overflow; use fp32 or bf16");
  data_ = allocate<uint32_t>(bytes() / sizeof(Word));
  // The last columns are zero up to the last panel's width. (int8: what is there is not read by anybody.)
  const size_t last = offset(panels() - 1);
  std::fill_n(data_.get() + last, bytes() / sizeof(Word) - last, Word{0});
  const auto padded = static_cast<size_t>(panels()) * static_cast<size_t>(panel_columns);
  const auto zeros = [padded] {
    FloatBlock block = allocate_floats(padded);
    std::fill_n(block.get(), padded, 0.0f);
    return block;
  };
  bias_ = zeros();
  if (precision == Precision::int8) scale_ = zeros();
}

int PackedMatrix::width(int panel) const { return std::min(panel_columns_, (columns_ - panel * panel_columns_ + 15) / 16 * 16); }

size_t PackedMatrix::offset(int panel) const {  // every panel before it is a full one
  return static_cast<size_t>(panel) * static_cast<size_t>(panel_columns_) * static_cast<size_t>(depth_words());
}

size_t PackedMatrix::bytes() const {
  return (offset(panels() - 1) + static_cast<size_t>(depth_words()) * static_cast<size_t>(width(panels() - 1))) * sizeof(Word);
}

void PackedMatrix::place(Team& team, const StoredMatrix& w, int first_column) {
  const int end = first_column + static_cast<int>(w.columns), first_panel = first_column / panel_columns_;
  const auto place_panel = [&](int panel) {
    const int column = std::max(first_column, panel * panel_columns_), inside = column % panel_columns_;
    const Strip strip{.matrix = w,
                      .first_column = static_cast<size_t>(column - first_column),
                      .depth = depth_,
                      .count = std::min(width(panel) - inside, end - column)};
    Word* to = data_.get() + offset(panel) + inside;
    switch (precision_) {
      case Precision::fp32:
        return convert<1>(strip, to, width(panel), [](float x, int) { return std::bit_cast<uint32_t>(x); });
      case Precision::bf16:
        return convert<2>(strip, to, width(panel), [](float x, int) { return to_bf16(x); });
      case Precision::int8:
        return (w.scale != nullptr ? copy_int8 : to_int8)(strip, to, width(panel), scale_.get() + column);
    }
  };
  team.run([&](int) { team.for_each((end - 1) / panel_columns_ + 1 - first_panel, [&](int i) { place_panel(first_panel + i); }); });
}

void PackedMatrix::place_transposed(const StoredMatrix& w) {
  std::vector<float> column(static_cast<size_t>(depth_));
  for (int c = 0; c < columns_; ++c) {
    const int panel = c / panel_columns_, panel_width = width(panel);
    w.read(static_cast<size_t>(c), 0, column.data(), column.size());
    Word* to = data_.get() + offset(panel) + c % panel_columns_;
    for (size_t k = 0; k < column.size(); ++k) to[k * static_cast<size_t>(panel_width)] = std::bit_cast<Word>(column[k]);
  }
}

namespace {

// Reads tensors by name, checked against the shapes that the config demands.
class Reader {
 public:
  Reader(const MappedFile& file, const TensorTable& tensors, Team& team) : file_(file), tensors_(tensors), team_(team) {}

  // A matrix [in, out], with scales of its columns where it is int8.
  StoredMatrix matrix(const std::string& name, int rows, int columns) const { return scaled(name, rows, columns, false); }

  // A table to look up rows in, with scales of those.
  StoredMatrix table(const std::string& name, int rows, int columns) const { return scaled(name, rows, columns, true); }

  StoredValues values(const std::string& name, std::initializer_list<int> shape) const {
    const auto entry = tensors_.find(name);
    if (entry == tensors_.end()) throw std::invalid_argument("tensor " + name + " is missing");
    const TensorPlace& place = entry->second;
    const bool same = std::equal(shape.begin(), shape.end(), place.shape.begin(), place.shape.end(),
                                 [](int expected, uint64_t found) { return static_cast<uint64_t>(expected) == found; });
    if (!same) throw std::invalid_argument("tensor " + name + " has another shape than the config demands");
    uint64_t length = size_of(place.type);
    for (const int size : shape) length *= static_cast<uint64_t>(size);
    return {file_.bytes(place.offset, length), place.type};
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
    const StoredValues stored = values(name, shape);
    if (stored.type == Stored::int8) throw std::invalid_argument("tensor " + name + " cannot be int8");
    stored.read(to, count);
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
    to.place(team_, matrix(name + ".weight", to.depth(), columns), first_column);
    read(to.bias() + first_column, name + ".bias", {columns});
    file_.drop_pages();  // what is packed need not stay resident twice
  }

 private:
  StoredMatrix scaled(const std::string& name, int rows, int columns, bool by_row) const {
    StoredMatrix matrix{.values = values(name, {rows, columns}), .columns = static_cast<size_t>(columns), .by_row = by_row};
    if (matrix.values.type != Stored::int8) return matrix;
    const StoredValues scale = values(name + "_scale", {by_row ? rows : columns});
    if (scale.type != Stored::float32) throw std::invalid_argument("tensor " + name + "_scale must be float32");
    matrix.scale = scale.first;
    return matrix;
  }

  const MappedFile& file_;
  const TensorTable& tensors_;
  Team& team_;
};

}  // namespace

Weights::Weights(const std::string& path, const TensorTable& tensors, const ModelConfig& c, const HeadConfig& heads,
                 int panel_columns, Precision layer_precision)
    : file(path), precision(layer_precision) {
  // As many threads as there are CPUs: whoever packs waits for it.
  const TeamPool::Lease team(TeamPool::instance(), std::min(whole_cpus(usable_cpus()), TeamPool::kMostThreads));
  const Reader reader(file, tensors, *team);
  const int e = c.embedding_size, h = c.hidden_size, i = c.intermediate_size;
  word_embeddings = reader.table("embeddings.word_embeddings.weight", c.vocab_size, e);
  position_embeddings = reader.block("embeddings.position_embeddings.weight", {c.max_position_embeddings, e});
  token_type_embeddings = reader.block("embeddings.token_type_embeddings.weight", {c.type_vocab_size, e});
  embedding_norm = reader.norm("embeddings.layer_norm", e);

  const auto pack = [&](const std::string& name, int depth, int columns, Precision type = Precision::fp32) {
    PackedMatrix matrix(depth, columns, panel_columns, type);
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
      w.qkv = PackedMatrix(h, 3 * h, panel_columns, precision);
      reader.linear(w.qkv, layer + "attention.query", h, 0);
      reader.linear(w.qkv, layer + "attention.key", h, h);
      reader.linear(w.qkv, layer + "attention.value", h, 2 * h);
      packed_bytes += w.qkv.bytes();
      w.dense = pack(layer + "attention.dense", h, h, precision);
      w.attention_norm = reader.norm(layer + "attention.layer_norm", h);
      w.ffn = pack(layer + "ffn", h, i, precision);
      w.ffn_output = pack(layer + "ffn_output", i, h, precision);
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
        reader.table(tied ? "embeddings.word_embeddings.weight" : "predictions.decoder.weight", c.vocab_size, e));
    reader.read(vocabulary.decoder.bias(), "predictions.bias", {c.vocab_size});
    packed_bytes += vocabulary.decoder.bytes();
    file.drop_pages();
  }
}

}  // namespace albert
