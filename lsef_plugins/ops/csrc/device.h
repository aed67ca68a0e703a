// What the CUDA kernels need of CUDA, in one place: CUDA itself under nvcc, or the emulation of tests/ops/emulation
// (LSEF_EMULATE), which runs the same kernels on a CPU and watches every access to device memory.
#pragma once
#include <cstdint>
#ifdef LSEF_EMULATE
#include "emulation.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#define LSEF_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#define LSEF_LAUNCH(kernel, grid, block, shared, stream, ...) \
  kernel<<<grid, block, shared, (cudaStream_t)(stream)>>>(__VA_ARGS__)
#endif

namespace lsef {
struct bf16 { uint16_t bits; };
struct f16 { uint16_t bits; };
#ifndef LSEF_EMULATE
template <class E> __device__ __forceinline__ E read(const E* p) { return *p; }
template <class E> __device__ __forceinline__ void write(E* p, E v) { *p = v; }
__device__ __forceinline__ int32_t bits_of(float v) { return __float_as_int(v); }
__device__ __forceinline__ int64_t bits_of(double v) { return __double_as_longlong(v); }
__device__ __forceinline__ float value_of(int32_t v) { return __int_as_float(v); }
__device__ __forceinline__ double value_of(int64_t v) { return __longlong_as_double(v); }
__device__ __forceinline__ float widen(float v) { return v; }
__device__ __forceinline__ double widen(double v) { return v; }
__device__ __forceinline__ float widen(bf16 v) { return __uint_as_float(uint32_t(v.bits) << 16); }
__device__ __forceinline__ float widen(f16 v) { return __half2float(__ushort_as_half(v.bits)); }
__device__ __forceinline__ void narrow(float v, float* o) { *o = v; }
__device__ __forceinline__ void narrow(double v, double* o) { *o = v; }
__device__ __forceinline__ void narrow(float v, bf16* o) { o->bits = __bfloat16_as_ushort(__float2bfloat16_rn(v)); }
__device__ __forceinline__ void narrow(float v, f16* o) { o->bits = __half_as_ushort(__float2half_rn(v)); }
#endif
template <class E> struct SumsOf { typedef float type; };
template <> struct SumsOf<double> { typedef double type; };
}  // namespace lsef
