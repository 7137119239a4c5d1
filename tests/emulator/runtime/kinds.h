// What matrix instructions multiply.
#pragma once

namespace emulator {

enum class Kind { s8, e4m3, f16, bf16 };

constexpr int bytes_of(Kind kind) { return kind == Kind::s8 || kind == Kind::e4m3 ? 1 : 2; }

}  // namespace emulator
