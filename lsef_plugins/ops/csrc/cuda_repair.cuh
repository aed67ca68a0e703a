// The frame-robust stage on CUDA: one warp for each matrix, one kernel where PyTorch launches more than a hundred.
#pragma once
#include "cuda.cuh"
#include "repair.h"

namespace lsef {

struct Warp {
  static constexpr int lanes = 32;
  int lane;
  __device__ __forceinline__ void sync() const { __syncwarp(); }
  template <class A> __device__ __forceinline__ A sum(A v) const { return warp_sum(v); }
  template <class A> __device__ __forceinline__ A load(const A* p) const { return read(p); }
  template <class A> __device__ __forceinline__ void store(A* p, A v) const { write(p, v); }
};

template <class A> __global__ void __launch_bounds__(32) frame_repair_kernel(lsef_frame_repair k) {
  LSEF_SHARED(memory);
  for (int64_t n = blockIdx.x; n < k.n; n += gridDim.x) repair_frames<A>(Warp{int(threadIdx.x)}, k, n, memory);
}
template <class A> __global__ void __launch_bounds__(32) isolation_kernel(lsef_isolation k) {
  LSEF_SHARED(memory);
  for (int64_t n = blockIdx.x; n < k.n; n += gridDim.x) find_isolation<A>(Warp{int(threadIdx.x)}, k, n, memory);
}

template <class A, class Job> int launch_small(void (*kernel)(Job), const Job& k, void* stream) {
  if (k.t > LSEF_REPAIR_MAX_FRAMES) return LSEF_TOO_MANY_FRAMES;
  if (k.n == 0 || k.t == 0) return LSEF_DONE;
  const dim3 grid(unsigned(k.n < 65536 ? k.n : 65536)), block(32);
  LSEF_LAUNCH(kernel, grid, block, repair_bytes<A>(int(k.t)), stream, k);
#ifdef LSEF_EMULATE
  return 0;
#else
  return int(cudaGetLastError());
#endif
}

}  // namespace lsef

extern "C" {
int lsef_cuda_frame_repair(const lsef_frame_repair* k, void*, void* stream) {
  return k->dtype == LSEF_F64 ? lsef::launch_small<double>(lsef::frame_repair_kernel<double>, *k, stream)
                              : lsef::launch_small<float>(lsef::frame_repair_kernel<float>, *k, stream);
}
int lsef_cuda_isolation(const lsef_isolation* k, void*, void* stream) {
  return k->dtype == LSEF_F64 ? lsef::launch_small<double>(lsef::isolation_kernel<double>, *k, stream)
                              : lsef::launch_small<float>(lsef::isolation_kernel<float>, *k, stream);
}
}
