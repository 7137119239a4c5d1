#include "product.h"

#include <cstring>
#include <vector>

#include "dot.h"

namespace emulator {

namespace {

// What dot.h has for each kind.
struct S8 {
  using Sum = std::int32_t;
  using Value = std::int8_t;
  static constexpr int kDepth = kDepth8;
  static constexpr auto decode = decode_s8;
  static constexpr auto dot = dot_s8;
};
struct E4m3 {
  using Sum = float;
  using Value = float;
  static constexpr int kDepth = kDepth8;
  static constexpr auto decode = decode_e4m3;
  static constexpr auto dot = dot_e4m3;
};
struct F16 {
  using Sum = float;
  using Value = double;
  static constexpr int kDepth = kDepth16;
  static constexpr auto decode = decode_f16;
  static constexpr auto dot = dot_16;
};
struct Bf16 : F16 {
  static constexpr auto decode = decode_bf16;
};

template <class Type>
std::vector<typename Type::Value> decoded(const std::uint8_t* codes, int count) {
  std::vector<typename Type::Value> values(static_cast<std::size_t>(count));
  Type::decode(codes, count, values.data());
  return values;
}

template <class Type>
void add(const Factors& factors, std::uint32_t* sums) {
  using Value = typename Type::Value;
  constexpr int kDepth = Type::kDepth;
  const int of_column = factors.kept == nullptr ? kDepth : 2 * kDepth;
  const std::vector<Value> a = decoded<Type>(factors.a, factors.rows * kDepth);
  const std::vector<Value> b = decoded<Type>(factors.b, factors.columns * of_column);
  for (int row = 0; row < factors.rows; ++row) {
    const Value* left = a.data() + row * kDepth;
    const std::uint8_t* kept = factors.kept == nullptr ? nullptr : factors.kept + row * kDepth;
    for (int column = 0; column < factors.columns; ++column) {
      const Value* right = b.data() + column * of_column;
      Value chosen[kDepth];
      if (kept != nullptr) {
        for (int k = 0; k < kDepth; ++k) chosen[k] = right[kept[k]];
        right = chosen;
      }
      std::uint32_t& word = sums[row * factors.columns + column];
      typename Type::Sum sum;
      std::memcpy(&sum, &word, sizeof sum);
      sum = Type::dot(sum, left, right);
      std::memcpy(&word, &sum, sizeof word);
    }
  }
}

}  // namespace

void add_product(const Factors& factors, std::uint32_t* sums) {
  switch (factors.kind) {
    case Kind::s8:
      return add<S8>(factors, sums);
    case Kind::e4m3:
      return add<E4m3>(factors, sums);
    case Kind::f16:
      return add<F16>(factors, sums);
    case Kind::bf16:
      return add<Bf16>(factors, sums);
  }
}

}  // namespace emulator
