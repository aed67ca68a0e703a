// Each instruction of instructions.h alone, one warp at a time, so that a test can hold it against the PTX manual's
// tables: `from` and `to` hold so many 32-bit words per lane, one lane after the other.
#pragma once
#include "cuda_common.cuh"
#include "instructions.h"

namespace lsef {

enum { kMultiply8, kMultiply16, kTransposed, kCopy16, kPack };

__global__ void __launch_bounds__(32) primitive_kernel(int which, const uint32_t* from, uint32_t* to) {
  LSEF_SHARED(memory);
  const int lane = threadIdx.x;
  uint32_t w[10];
  float c[4];
  if (which == kCopy16) {
    uint32_t* words = reinterpret_cast<uint32_t*>(memory);
    copy16(words + 4 * lane, from + 4 * lane);
    end_group();
    wait_for_copies();
    __syncthreads();
    store16(to + 4 * lane, words + 4 * (31 - lane));
    return;
  }
  const int words = which == kMultiply8 ? 7 : which == kMultiply16 ? 10 : which == kPack ? 2 : 1;
  for (int i = 0; i < 10; ++i) w[i] = i < words ? read(from + words * lane + i) : 0u;
  for (int i = 0; i < 4; ++i) c[i] = value_of(int32_t(w[i]));
  if (which == kTransposed) return write(to + lane, transposed(w[0]));
  if (which == kPack) {
    write(to + 2 * lane, pack(c[0], c[1]));
    return write(to + 2 * lane + 1, pack_half(c[0], c[1]));
  }
  if (which == kMultiply8) multiply8(c, w[4], w[5], w[6]);
  if (which == kMultiply16) multiply16(c, w[4], w[5], w[6], w[7], w[8], w[9]);
  for (int i = 0; i < 4; ++i) write(to + 4 * lane + i, uint32_t(bits_of(c[i])));
}

}  // namespace lsef

// For tests only.
extern "C" __attribute__((visibility("default"))) int lsef_cuda_primitive(int which, const void* from, void* to,
                                                                          void* stream) {
  return lsef::launch_on(lsef::primitive_kernel, dim3(1), dim3(32), 512, stream, which,
                         static_cast<const uint32_t*>(from), static_cast<uint32_t*>(to));
}
