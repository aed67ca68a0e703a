// The CUDA kernels as a C library for the CPU, which test_cuda_emulation.py drives through ctypes.
#define LSEF_EMULATE
#include "../../../lsef_plugins/ops/csrc/cuda.cuh"
#include "../../../lsef_plugins/ops/csrc/cuda_eigh.cuh"
#include "../../../lsef_plugins/ops/csrc/cuda_frame_shrink.cuh"
#include "../../../lsef_plugins/ops/csrc/cuda_repair.cuh"

namespace lsef {
inline float widen(bf16 v) {
  const uint32_t u = uint32_t(v.bits) << 16;
  float f;
  memcpy(&f, &u, 4);
  return f;
}
inline float widen(f16 v) {
  _Float16 h;
  memcpy(&h, &v.bits, 2);
  return float(h);
}
inline void narrow(float v, bf16* o) {
  uint32_t u;
  memcpy(&u, &v, 4);
  o->bits = v != v ? 0x7fc0 : uint16_t((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}
inline void narrow(float v, f16* o) {
  const _Float16 h = _Float16(v);
  memcpy(&o->bits, &h, 2);
}
inline uint32_t pack(float low, float high) {
  bf16 pair[2];
  narrow(low, &pair[0]);
  narrow(high, &pair[1]);
  return uint32_t(pair[0].bits) | uint32_t(pair[1].bits) << 16;
}
inline uint32_t pack_half(float low, float high) {
  f16 pair[2];
  narrow(low, &pair[0]);
  narrow(high, &pair[1]);
  return uint32_t(pair[0].bits) | uint32_t(pair[1].bits) << 16;
}
}  // namespace lsef

extern "C" {
void emulation_begin(int order) {
  emulation::State& s = emulation::state();
  s.buffers.clear();
  s.order = order;
  s.random.seed(order);
  s.launches = 0;
}
void emulation_buffer(const void* data, int64_t elements, int64_t bytes) {
  emulation::state().buffers.push_back({static_cast<const char*>(data), size_t(elements), size_t(bytes),
                                        std::vector<uint16_t>(elements), std::vector<uint16_t>(elements)});
}
// Fewest and most reads, fewest and most writes of an element of buffer `i`.
void emulation_counts(int i, int64_t* out) {
  const emulation::Buffer& b = emulation::state().buffers[i];
  for (const auto* counts : {&b.reads, &b.writes}) {
    const auto range = std::minmax_element(counts->begin(), counts->end());
    *out++ = *range.first;
    *out++ = *range.second;
  }
}
int64_t emulation_wide(int i) { return emulation::state().buffers[i].wide; }
int64_t emulation_launches() { return emulation::state().launches; }
}
