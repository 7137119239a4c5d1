// Small floats, bit for bit as the GPU converts them: to nearest, ties to even. NaN becomes the one NaN that PTX names.
#pragma once

namespace emulator {

double e4m3_value(unsigned char code);

// Saturates at 448, also from infinity (.satfinite).
unsigned char to_e4m3(float value);

// The 8 bits of exponent of a float; overflow to infinity.
unsigned short to_bf16(float value);
float bf16_value(unsigned short bits);

// IEEE binary16; overflow to infinity.
unsigned short to_f16(float value);
float f16_value(unsigned short bits);

}  // namespace emulator
