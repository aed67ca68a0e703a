// Eigenvalues and vectors of small symmetric matrices: Jacobi's method, one warp and no host for each matrix. A round
// turns T/2 disjoint pairs of axes at once, a round robin of rounds is a sweep, and the warp itself sees when a sweep
// has found nothing left to turn. Batched solvers of libraries are launched in several kernels and ask the host.
#pragma once
#include "cuda.cuh"
#include "rotation.h"

namespace lsef {

// The axes that pair k of round r turns, by the circle method: the last one stays, the others go round. `axes` is even;
// where the matrix has one row less, the last axis is missing and its partner rests.
struct RowPair { int p, q; };
__device__ __forceinline__ RowPair pair_at(int k, int r, int axes) {
  const int ring = axes - 1, p = r + k < ring ? r + k : r + k - ring, q = r - k < 0 ? r - k + ring : r - k;
  return {k ? p : ring, q};
}

// What the warp shares: the matrix, its vectors as rows, the rotations of the round and the order of the values. Rows
// are of odd length, so that the lanes of a warp read different banks.
template <class A> struct EighShared {
  A *a, *v, *coupling, *tangent, *sine, *half;
  int* order;
  int stride;
  __host__ __device__ EighShared(unsigned char* memory, int T) : stride(T | 1) {
    a = reinterpret_cast<A*>(memory);
    v = a + T * stride;
    coupling = v + T * stride;
    tangent = coupling + 16;
    sine = tangent + 16;
    half = sine + 16;
    order = reinterpret_cast<int*>(half + 16);
  }
  static size_t bytes(int T) { return sizeof(A) * (2 * size_t(T) * (T | 1) + 4 * 16) + sizeof(int) * T; }
  __device__ Rotation<A> at(int k) const { return {tangent[k], sine[k], half[k]}; }
};

// Lane k finds the rotation of pair k. Returns whether any pair has to turn.
template <class A> __device__ __forceinline__ bool find_rotations(const EighShared<A>& m, int T, int axes, int round) {
  const int k = threadIdx.x;
  int wanted = 0;
  if (k < axes / 2) {
    const RowPair pair = pair_at(k, round, axes);
    A apq = 0;
    Rotation<A> turned = {A(0), A(0), A(0)};
    if (pair.p < T) {
      const A app = m.a[pair.p * m.stride + pair.p], aqq = m.a[pair.q * m.stride + pair.q];
      apq = coupling<A>(app, aqq, m.a[pair.p * m.stride + pair.q], A(1));
      if (apq != A(0)) turned = rotation(app, aqq, apq, A(1));
    }
    m.coupling[k] = apq;
    m.tangent[k] = turned.tangent;
    m.sine[k] = turned.sine;
    m.half[k] = turned.half;
    wanted = apq != A(0);
  }
  LSEF_UNROLL
  for (int step = 16; step > 0; step >>= 1) wanted |= __shfl_xor_sync(0xffffffffu, wanted, step);
  __syncwarp();
  return wanted;
}

// The 2 x 2 elements where the axes of two pairs meet: nobody else touches them in this round.
template <class A>
__device__ __forceinline__ void turn_block(const EighShared<A>& m, int T, int axes, int round, int i, int j) {
  const RowPair row = pair_at(i, round, axes), column = pair_at(j, round, axes);
  A* a = m.a;
  const int s = m.stride;
  if (i == j) {
    if (m.coupling[i] == A(0)) return;
    const A change = m.tangent[i] * m.coupling[i];
    a[row.p * s + row.p] -= change;
    a[row.q * s + row.q] += change;
    a[row.p * s + row.q] = a[row.q * s + row.p] = A(0);
    return;
  }
  // Only pair 0 can lack its first axis, and only as the row.
  const bool whole = row.p < T;
  A pp = whole ? a[row.p * s + column.p] : A(0), pq = whole ? a[row.p * s + column.q] : A(0);
  A qp = a[row.q * s + column.p], qq = a[row.q * s + column.q];
  const Rotation<A> left = m.at(i), right = m.at(j);
  turn(pp, qp, left);
  turn(pq, qq, left);
  turn(pp, pq, right);
  turn(qp, qq, right);
  if (whole) {
    a[row.p * s + column.p] = a[column.p * s + row.p] = pp;
    a[row.p * s + column.q] = a[column.q * s + row.p] = pq;
  }
  a[row.q * s + column.p] = a[column.p * s + row.q] = qp;
  a[row.q * s + column.q] = a[column.q * s + row.q] = qq;
}

template <class A> __device__ __forceinline__ bool eigh_sweep(const EighShared<A>& m, int T) {
  const int lane = threadIdx.x, axes = T + (T & 1), pairs = axes / 2;
  bool moved = false;
  for (int round = 0; round < axes - 1; ++round) {
    if (!find_rotations(m, T, axes, round)) continue;
    moved = true;
    for (int b = lane; b < pairs * pairs; b += 32)
      if (b / pairs <= b % pairs) turn_block(m, T, axes, round, b / pairs, b % pairs);
    for (int e = lane; e < pairs * T; e += 32) {
      const int k = e / T, r = e % T;
      const RowPair pair = pair_at(k, round, axes);
      if (pair.p < T) turn(m.v[pair.p * m.stride + r], m.v[pair.q * m.stride + r], m.at(k));
    }
    __syncwarp();
  }
  return moved;
}

// The lower triangle, scaled by the power of two whose exponent is returned; `finite` tells whether all of it is.
template <class A>
__device__ __forceinline__ int eigh_load(const EighShared<A>& m, const A* from, int T, bool& finite) {
  A peak = 0, broken = 0;
  for (int e = threadIdx.x; e < T * T; e += 32) {
    const int i = e / T, j = e % T;
    m.v[i * m.stride + j] = A(i == j);
    if (j > i) continue;
    const A x = read(from + e);
    m.a[i * m.stride + j] = m.a[j * m.stride + i] = x;
    peak = magnitude(x) > peak ? magnitude(x) : peak;
    broken += x * 0;
  }
  LSEF_UNROLL
  for (int step = 16; step > 0; step >>= 1) {
    const A other = __shfl_xor_sync(0xffffffffu, peak, step);
    peak = other > peak ? other : peak;
  }
  finite = warp_sum(broken) == A(0);
  int exponent = 0;
  if (finite) frexp(peak, &exponent);
  __syncwarp();
  for (int e = threadIdx.x; e < T * T; e += 32) {
    A& x = m.a[e / T * m.stride + e % T];
    x = finite ? A(ldexp(x, -exponent)) : A(0);
  }
  __syncwarp();
  return exponent;
}

// Ascending; of equal values the first axis first.
template <class A>
__device__ __forceinline__ void eigh_store(const EighShared<A>& m, int T, int exponent, bool finite, A* values, A* vectors) {
  for (int i = threadIdx.x; i < T; i += 32) {
    const A value = m.a[i * m.stride + i];
    int place = 0;
    for (int j = 0; j < T; ++j) {
      const A other = m.a[j * m.stride + j];
      place += other < value || (other == value && j < i);
    }
    m.order[place] = i;
    write(values + place, finite ? A(ldexp(value, exponent)) : A(NAN));
  }
  __syncwarp();
  for (int e = threadIdx.x; e < T * T; e += 32)
    write(vectors + e, finite ? m.v[m.order[e % T] * m.stride + e / T] : A(NAN));
}

template <class A> __global__ void __launch_bounds__(32) eigh_kernel(lsef_eigh k) {
  LSEF_SHARED(memory);
  const int T = int(k.t);
  const EighShared<A> m(memory, T);
  for (int64_t n = blockIdx.x; n < k.n; n += gridDim.x) {
    bool finite;
    const int exponent = eigh_load(m, static_cast<const A*>(k.matrix) + n * T * T, T, finite);
    for (int i = 0; i < kMaxSweeps && eigh_sweep(m, T); ++i) {}
    eigh_store(m, T, exponent, finite, static_cast<A*>(k.values) + n * T, static_cast<A*>(k.vectors) + n * T * T);
    __syncwarp();
  }
}

template <class A> int eigh(const lsef_eigh& k, void* stream) {
  const dim3 grid(unsigned(k.n < 65536 ? k.n : 65536)), block(32);
  LSEF_LAUNCH(eigh_kernel<A>, grid, block, EighShared<A>::bytes(int(k.t)), stream, k);
#ifdef LSEF_EMULATE
  return 0;
#else
  return int(cudaGetLastError());
#endif
}

}  // namespace lsef

extern "C" int lsef_cuda_eigh(const lsef_eigh* k, void*, void* stream) {
  if (k->t > LSEF_CUDA_EIGH_ROWS) return LSEF_TOO_MANY_FRAMES;
  if (k->n == 0 || k->t == 0) return LSEF_DONE;
  return k->dtype == LSEF_F64 ? lsef::eigh<double>(*k, stream) : lsef::eigh<float>(*k, stream);
}
