// The instructions of the fast kernels beyond CUDA's C++: products on the tensor cores, 16-byte asynchronous copies and
// packed conversions (PTX, sm_80 and later). tests/ops/emulation has each of them again, written from the same tables
// of the PTX manual; tests/ops/test_cuda_device.py compares every one with those tables on a real GPU.
#pragma once
#include "device.h"

namespace lsef {
#ifndef LSEF_EMULATE
// Two values as bfloat16, the first in the low half.
__device__ __forceinline__ uint32_t pack(float low, float high) {
  uint32_t out;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  return out;
}
__device__ __forceinline__ uint32_t pack_half(float low, float high) {
  uint32_t out;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  return out;
}
// c (16 x 8) += a (16 x 8) b (8 x 8), in bfloat16 with sums in float. Lane 4 g + q has
//   a: a0 row g, a1 row g + 8; columns 2 q and 2 q + 1      b: column g, rows 2 q and 2 q + 1
//   c: c[0], c[1] row g, c[2], c[3] row g + 8; columns 2 q and 2 q + 1
__device__ __forceinline__ void multiply8(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t b0) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a0), "r"(a1), "r"(b0));
}
// The same with a (16 x 16) and b (16 x 8): a2, a3 and b1 are what a0, a1 and b0 are, 8 further along the sum.
__device__ __forceinline__ void multiply16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                           uint32_t b0, uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
               "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
// An 8 x 8 matrix of 16-bit values, row g at columns 2 q and 2 q + 1 in lane 4 g + q, becomes its transpose.
__device__ __forceinline__ uint32_t transposed(uint32_t a) {
  uint32_t out;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(out) : "r"(a));
  return out;
}
// 16 bytes to shared memory, there after the wait and the barrier behind it.
__device__ __forceinline__ void copy16(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(uint32_t(__cvta_generic_to_shared(to))), "l"(from)
               : "memory");
}
__device__ __forceinline__ void end_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }
__device__ __forceinline__ void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }
// 16 bytes from shared memory to device memory. As PTX, because nvcc may split the store of a struct.
__device__ __forceinline__ void store16(void* to, const void* from) {
  const uint4 v = *static_cast<const uint4*>(from);
  asm volatile("st.global.v4.u32 [%0], {%1,%2,%3,%4};" ::"l"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}
// Shared memory, 4 or 8 bytes at once.
template <class V> __device__ __forceinline__ V get(const void* p) { return *static_cast<const V*>(p); }
template <class V> __device__ __forceinline__ void put(void* p, V v) { *static_cast<V*>(p) = v; }
#endif

struct alignas(8) Pair { float low, high; };
__device__ __forceinline__ float low_of(uint32_t pair) { return value_of(int32_t(pair << 16)); }
__device__ __forceinline__ float high_of(uint32_t pair) { return value_of(int32_t(pair & 0xffff0000u)); }

// Two neighbours in shared memory, aligned to their common size.
__device__ __forceinline__ Pair neighbours(const float* p) { return get<Pair>(p); }
__device__ __forceinline__ Pair neighbours(const bf16* p) {
  const uint32_t both = get<uint32_t>(p);
  return {low_of(both), high_of(both)};
}
__device__ __forceinline__ Pair neighbours(const f16* p) {
  const uint32_t both = get<uint32_t>(p);
  return {widen(f16{uint16_t(both)}), widen(f16{uint16_t(both >> 16)})};
}
__device__ __forceinline__ void neighbours(float* p, float low, float high) { put<Pair>(p, {low, high}); }
__device__ __forceinline__ void neighbours(bf16* p, float low, float high) { put<uint32_t>(p, pack(low, high)); }
__device__ __forceinline__ void neighbours(f16* p, float low, float high) { put<uint32_t>(p, pack_half(low, high)); }

}  // namespace lsef
