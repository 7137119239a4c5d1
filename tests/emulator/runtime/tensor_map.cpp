#include "tensor_map.h"

#include <algorithm>

#include "fault.h"
#include "memory.h"

namespace emulator {

constexpr std::uint64_t kChunk = 16;
constexpr std::uint64_t kWidest = 256;  // box without a swizzle: the driver counts up to 256 elements, here bytes

std::string TensorMap::refusal() const {
  const auto text = [](std::uint64_t number) { return std::to_string(number); };
  if (magic != kMagic) return "no tensor map";
  if (address % kChunk != 0) return "a tensor map whose address is no multiple of 16";
  if (stride % kChunk != 0) return "a tensor map with the stride " + text(stride) + ", no multiple of 16";
  if (rows == 0 || row_bytes == 0) return "a tensor map of " + text(rows) + " rows of " + text(row_bytes) + " bytes";
  if (swizzle != 0 && swizzle != 64 && swizzle != 128) return "a tensor map with a swizzle of " + text(swizzle);
  const std::uint64_t widest = swizzle == 0 ? kWidest : swizzle;
  if (box_rows == 0 || box_rows > 256 || box_bytes == 0 || box_bytes > widest || box_bytes % kChunk != 0) {
    const std::string boxes = text(box_rows) + " rows of " + text(box_bytes) + " bytes";
    return "a tensor map with boxes of " + boxes + " and a swizzle of " + text(swizzle);
  }
  return "";
}

BoxRow box_row(const TensorMap& map, std::int64_t x, std::int64_t y, std::size_t row) {
  const std::int64_t line = y + static_cast<std::int64_t>(row);
  const std::int64_t first = std::max<std::int64_t>(x, 0);
  const std::int64_t end = std::min(x + map.box_bytes, static_cast<std::int64_t>(map.row_bytes));
  if (line < 0 || line >= static_cast<std::int64_t>(map.rows) || first >= end) return {0, 0, nullptr};
  const std::uint64_t global = map.address + static_cast<std::uint64_t>(line) * map.stride +
                               static_cast<std::uint64_t>(first);
  return {static_cast<std::size_t>(first - x), static_cast<std::size_t>(end - first),
          reinterpret_cast<unsigned char*>(global)};
}

const TensorMap& map_at(const void* address, const void* site) {
  const auto& map = *static_cast<const TensorMap*>(address);
  const bool misplaced = reinterpret_cast<std::uint64_t>(address) % 64 != 0;
  const std::string reason = misplaced ? "a tensor map at an address that is no multiple of 64" : map.refusal();
  if (!reason.empty()) fail("bad argument", name_of_access(memory().witness(site).now) + " uses " + reason);
  return map;
}

}  // namespace emulator
