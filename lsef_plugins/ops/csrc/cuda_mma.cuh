// low_rank_sparse and gram on the tensor cores, for 8, 16 and 32 frames of float32, bfloat16 and float16.
//
// A warp takes 16 columns of x at a time as the rows of a matrix, with the frames along the sum: L' = X' M'. Laid out
// so, a product leaves in each lane what the next one takes (to_x' += D' M), and X and D are transposed only once, in
// registers, for to_M += D X'. l, s and d never leave the registers.
//
// The tensor cores multiply bfloat16. A number of float32 is the sum of three of them, one of float16 of two: x is
// split exactly, whatever its exponent. M and d are split into two (16 bits, where the results have 8 or 11) or, for
// float32, three; products of parts too small to matter are left out. That is about 4e-6 relative for 16-bit features
// and 3e-7 for float32, the latter at a fraction of the 3 T multiplications per element that float32 would take
// elsewhere. What is infinite comes out NaN (its remainder is).
//
// Tensor cores round sums toward zero. Sums over columns are therefore kept in them for one stage only and added up in
// ordinary float32, in a fixed order.
//
// What limits these kernels at bfloat16 is not memory alone: 4.3 TB/s are 4.8 elements per clock and multiprocessor in
// the forward pass, which leaves some 26 instructions for each. Hence pairs of neighbours wherever the layout has them,
// and versions without what is not asked for (`Whole`).
#pragma once
#include <atomic>

#include "cuda_common.cuh"
#include "cuda_stage.cuh"
#include "maths.h"

namespace lsef {

template <class E> struct PartsOf { static constexpr int x = 1, matrix = 2; };
template <> struct PartsOf<f16> { static constexpr int x = 2, matrix = 2; };
template <> struct PartsOf<float> { static constexpr int x = 3, matrix = 3; };
// Of what Gram matrices are made of: z = x - s is float32.
template <class E, bool Events> constexpr int kGramParts = Events ? 3 : PartsOf<E>::x;

template <int N> __device__ __forceinline__ void split(float low, float high, uint32_t (&parts)[N]) {
  LSEF_UNROLL
  for (int i = 0; i < N; ++i) {
    parts[i] = pack(low, high);
    low -= low_of(parts[i]);
    high -= high_of(parts[i]);
  }
}

template <int N, int B>
__device__ __forceinline__ void split_all(const float (&values)[B][4], uint32_t (&parts)[N][B][2]) {
  LSEF_UNROLL
  for (int j = 0; j < B; ++j) {
    LSEF_UNROLL
    for (int h = 0; h < 2; ++h) {
      uint32_t pair[N];
      split(values[j][2 * h], values[j][2 * h + 1], pair);
      LSEF_UNROLL
      for (int part = 0; part < N; ++part) parts[part][j][h] = pair[part];
    }
  }
}

// Where a lane stands: row g and columns 2 q, 2 q + 1 of an accumulator, which is frames 8 j + 2 q (+ 1) of columns 2 g
// and 2 g + 1 of the tile: the two columns are neighbours, because the order of rows is ours to choose.
struct Lane {
  int lane, warp, g, q;
  __device__ Lane() : lane(threadIdx.x & 31), warp(threadIdx.x >> 5), g(lane >> 2), q(lane & 3) {}
};

// values[j][2 h + f] is frame 8 j + 2 q + f of column 2 g + h; zero where there is no column.
// `from` points at frame 2 q of column 2 g, `room` counts columns from there on.
template <class E>
__device__ __forceinline__ void get_frames(const E* from, int stride, bool pairs, int room, int j, float (&values)[4]) {
  from += 8 * j * stride;
  LSEF_UNROLL
  for (int f = 0; f < 2; ++f, from += stride) {
    Pair both = {0.f, 0.f};
    if (pairs) {
      if (room > 0) both = neighbours(from);
    } else {
      if (room > 0) both.low = widen(from[0]);
      if (room > 1) both.high = widen(from[1]);
    }
    values[f] = both.low;
    values[2 + f] = both.high;
  }
}
template <class E>
__device__ __forceinline__ void put_frames(E* to, int stride, bool pairs, int room, int j, const float (&values)[4]) {
  to += 8 * j * stride;
  LSEF_UNROLL
  for (int f = 0; f < 2; ++f, to += stride) {
    if (pairs) {
      if (room > 0) neighbours(to, values[f], values[2 + f]);
    } else {
      if (room > 0) narrow(values[f], to);
      if (room > 1) narrow(values[2 + f], to + 1);
    }
  }
}

// ---- the matrix --------------------------------------------------------------------------------------------------

// The parts of M as every lane needs them, in shared memory and, up to 16 frames, in registers. Word (part, i, j) of a
// lane holds M[n, k] and M[n, k + 1] (Turned: M[k, n], M[k + 1, n]) with n = 8 i + g, k = 8 j + 2 q.
template <int T, int N> constexpr int kMatrixWords = N * (T / 8) * (T / 8) * 32;

template <int T, int N, bool Turned> __device__ __forceinline__ void share_words(uint32_t* to, const float* matrix) {
  constexpr int B = T / 8;
  for (int i = threadIdx.x; i < B * B * 32; i += kThreads) {
    const int lane = i & 31, n = 8 * (i / 32 / B) + (lane >> 2), k = 8 * (i / 32 % B) + 2 * (lane & 3);
    uint32_t parts[N];
    split(Turned ? matrix[k * T + n] : matrix[n * T + k], Turned ? matrix[(k + 1) * T + n] : matrix[n * T + k + 1],
          parts);
    LSEF_UNROLL
    for (int part = 0; part < N; ++part) to[part * B * B * 32 + i] = parts[part];
  }
}
template <int T, int N> struct Matrix {
  static constexpr int B = T / 8;
  static constexpr bool kHeld = B <= 2;
  uint32_t held[kHeld ? N * B * B : 1];
  const uint32_t* words;
  __device__ __forceinline__ Matrix(const uint32_t* shared, int lane, bool there = true) : words(shared + lane) {
    if (!kHeld || !there) return;
    LSEF_UNROLL
    for (int i = 0; i < (kHeld ? N * B * B : 0); ++i) held[i] = words[i * 32];
  }
  __device__ __forceinline__ uint32_t operator()(int part, int i, int j) const {
    const int word = (part * B + i) * B + j;
    return kHeld ? held[kHeld ? word : 0] : words[word * 32];
  }
};

// out (16 columns x frames 8 i .. 8 i + 7) += the sum over frames of a times block row i of the matrix. The small parts
// come first.
template <int T, int NA, int N>
__device__ __forceinline__ void multiply(float (&out)[4], const uint32_t (&a)[NA][T / 8][2], const Matrix<T, N>& m,
                                         int i) {
  constexpr int B = T / 8;
  LSEF_UNROLL
  for (int order = N - 1; order >= 0; --order) {
    LSEF_UNROLL
    for (int part = 0; part <= order; ++part) {
      if (part >= NA) continue;
      if constexpr (B == 1) {
        multiply8(out, a[part][0][0], a[part][0][1], m(order - part, i, 0));
      } else {
        LSEF_UNROLL
        for (int j = 0; j < B; j += 2)
          multiply16(out, a[part][j][0], a[part][j][1], a[part][j + 1][0], a[part][j + 1][1], m(order - part, i, j),
                     m(order - part, i, j + 1));
      }
    }
  }
}

// ---- sums over columns -------------------------------------------------------------------------------------------

// sum (T x T) += d x', both turned to frames times columns. With 8 frames two parts of d fill the 16 rows.
template <int T> constexpr int kRowBlocks = (T + 8) / 16;
template <int T> using Square = float[kRowBlocks<T>][T / 8][4];

// Products of parts i and j with i + j >= Limit are left out.
template <int T, int Limit, int ND, int NX>
__device__ __forceinline__ void add_outer_product(Square<T>& sum, const uint32_t (&d)[ND][T / 8][2],
                                                  const uint32_t (&x)[NX][T / 8][2]) {
  constexpr int B = T / 8;
  LSEF_UNROLL
  for (int right = NX - 1; right >= 0; --right) {
    if constexpr (B == 1) {
      LSEF_UNROLL
      for (int left = 0; left < ND; left += 2) {
        if (left + right >= Limit) continue;
        const bool two = left + 1 < ND && left + 1 + right < Limit;
        const int other = two ? left + 1 : left;
        multiply16(sum[0][0], d[left][0][0], two ? d[other][0][0] : 0u, d[left][0][1], two ? d[other][0][1] : 0u,
                   x[right][0][0], x[right][0][1]);
      }
    } else {
      LSEF_UNROLL
      for (int left = ND - 1; left >= 0; --left) {
        if (left + right >= Limit) continue;
        LSEF_UNROLL
        for (int m = 0; m < kRowBlocks<T>; ++m) {
          LSEF_UNROLL
          for (int j = 0; j < B; ++j)
            multiply16(sum[m][j], d[left][2 * m][0], d[left][2 * m + 1][0], d[left][2 * m][1], d[left][2 * m + 1][1],
                       x[right][j][0], x[right][j][1]);
        }
      }
    }
  }
}
template <int N, int B> __device__ __forceinline__ void transpose(uint32_t (&a)[N][B][2]) {
  LSEF_UNROLL
  for (int part = 0; part < N; ++part) {
    LSEF_UNROLL
    for (int j = 0; j < B; ++j) {
      a[part][j][0] = transposed(a[part][j][0]);
      a[part][j][1] = transposed(a[part][j][1]);
    }
  }
}
// square += sum, sum = 0. Every lane has its own entries of the warp's square.
template <int T> __device__ __forceinline__ void collect(float* square, Square<T>& sum, const Lane& at) {
  LSEF_UNROLL
  for (int m = 0; m < kRowBlocks<T>; ++m) {
    LSEF_UNROLL
    for (int j = 0; j < T / 8; ++j) {
      float(&s)[4] = sum[m][j];
      float* to = square + (16 * m + at.g) * T + 8 * j + 2 * at.q;
      if constexpr (T == 8) {
        to[0] += s[0] + s[2];
        to[1] += s[1] + s[3];
      } else {
        to[0] += s[0];
        to[1] += s[1];
        to[8 * T] += s[2];
        to[8 * T + 1] += s[3];
      }
      s[0] = s[1] = s[2] = s[3] = 0.f;
    }
  }
}

// ---- sums of a channel -------------------------------------------------------------------------------------------

// Lanes, then warps, add up what they have of each channel: `leave` before a barrier, `pick_up` after it.
template <int K>
__device__ __forceinline__ void leave(float* slots, const float (&sums)[2][K], const Plan& plan, const Lane& at) {
  slots += at.warp * 16 * K;
  LSEF_UNROLL
  for (int i = 0; i < K; ++i) {
    if (plan.per_set == 1) {
      const float all = warp_sum(sums[0][i] + sums[1][i]);
      if (at.lane == 0) slots[i] = all;
    } else {
      LSEF_UNROLL
      for (int h = 0; h < 2; ++h) {
        float all = sums[h][i];
        all += __shfl_xor_sync(0xffffffffu, all, 1);
        all += __shfl_xor_sync(0xffffffffu, all, 2);
        if (at.q == 0) slots[(2 * at.g + h) * K + i] = all;
      }
    }
  }
}
// give(channel, i, sum)
template <int K, class Give>
__device__ __forceinline__ void pick_up(const float* slots, const Plan& plan, int64_t first, int64_t channels,
                                        Give give) {
  for (int i = threadIdx.x; i < plan.channels * K; i += kThreads) {
    const int channel = i / K, set = channel / plan.per_set;
    if (first + channel >= channels) continue;
    float sum = 0.f;
    for (int member = 0; member < plan.members; ++member)
      sum += slots[((set * plan.members + member) * 16 + channel % plan.per_set) * K + i % K];
    give(first + channel, i % K, sum);
  }
}

// ---- the kernels -------------------------------------------------------------------------------------------------

constexpr int kSlots = kWarps * 16 * kStatistics;

// Blocks that a multiprocessor must be able to hold, which is what bounds the registers of a lane: 65536 / (128
// blocks). As many as the compiler manages without spilling.
template <class E, int T, bool Whole>
constexpr int kForwardBlocks = Whole ? (T == 8 ? 6 : 4) : T == 8 ? 8 : T == 16 ? 6 : 5;
template <class E, int T, bool Whole>
constexpr int kBackwardBlocks = T == 8    ? (Whole || sizeof(E) == 4 ? 4 : 6)
                                : T == 16 ? (PartsOf<E>::x == 1 && !Whole ? 4 : Whole && sizeof(E) == 4 ? 2 : 3)
                                          : (Whole || sizeof(E) == 4 ? 2 : 3);
template <class E, int T> constexpr int kGramBlocks = T == 8 ? 7 : T == 16 ? 5 : 3;

// What the kernels have in shared memory: M and its transpose, keep, sums of channels, sums over columns, stages.
template <class E, int T, int N> struct Room {
  uint32_t *words, *turned;
  float *keep, *slots, *squares;
  E* stages;
  __device__ Room(unsigned char* memory, int orientations, int squares_each) {
    words = reinterpret_cast<uint32_t*>(memory);
    turned = words + kMatrixWords<T, N>;
    keep = reinterpret_cast<float*>(words + orientations * kMatrixWords<T, N>);
    slots = keep + T;
    squares = slots + kSlots;
    stages = reinterpret_cast<E*>(squares + kWarps * squares_each);
  }
  static size_t bytes(int orientations, int squares_each, int64_t stages) {
    return 4 * (size_t(orientations) * kMatrixWords<T, N> + T + kSlots + kWarps * squares_each) + stages * sizeof(E);
  }
};
template <int T> __device__ __forceinline__ void share_keep(float* to, const void* keep, int64_t n) {
  for (int t = threadIdx.x; t < T; t += kThreads) to[t] = entry(keep, n * T + t, 1.f);
}
__device__ __forceinline__ int64_t channel_of(const Plan& plan, const lsef_size& size, Item item, int set,
                                              const Lane& at, int h) {
  const int64_t c = item.group * plan.channels + set * plan.per_set + (plan.per_set == 1 ? 0 : 2 * at.g + h);
  return c < size.c ? c : size.c - 1;
}

// Whole: more than y is asked for. The first output takes the place of x in the stage.
template <class E, int T, bool Whole>
__global__ void __launch_bounds__(kThreads, (kForwardBlocks<E, T, Whole>))
    fast_low_rank_sparse_kernel(lsef_low_rank_sparse k, Plan plan) {
  constexpr int B = T / 8, NX = PartsOf<E>::x, N = PartsOf<E>::matrix;
  LSEF_SHARED(memory);
  const Lane at;
  const int set = at.warp / plan.members, member = at.warp % plan.members;
  const bool pairs = plan.stride % 2 == 0;
  const int64_t n = blockIdx.y;
  const Room<E, T, N> room(memory, 1, 0);
  Item item = {blockIdx.x, 0};
  fetch<E, T>(plan, k.size, k.x, n, item, room.stages);
  end_group();
  share_words<T, N, false>(room.words, static_cast<const float*>(k.matrix) + n * T * T);
  share_keep<T>(room.keep, k.keep, n);
  __syncthreads();
  const Matrix<T, N> matrix(room.words, at.lane);
  const Exponent<float> p = exponent_of<float>(k.exponent);
  const lsef_view* outputs[4] = {&k.y, &k.l, &k.s, &k.r};
  Gates<float> gates[2];
  float sums[2][kStatistics];
  for (int turn = 0; item.group < plan.groups; turn ^= 1) {
    if (item.chunk == 0) {
      LSEF_UNROLL
      for (int h = 0; h < 2; ++h) {
        gates[h] = gates_of<float>(k, n * k.size.c + channel_of(plan, k.size, item, set, at, h));
        LSEF_UNROLL
        for (int i = 0; i < kStatistics; ++i) sums[h][i] = 0.f;
      }
    }
    const Item next = after(item, plan);
    wait_for_copies();
    __syncthreads();
    if (next.group < plan.groups) fetch<E, T>(plan, k.size, k.x, n, next, room.stages + (turn ^ 1) * plan.stage);
    end_group();
    E *stage = room.stages + turn * plan.stage, *extra = room.stages + 2 * plan.stage;
    const Tiles tiles = tiles_of<E, T>(plan, k.size, item, set);
    E* tile = stage + tiles.first + member * tiles.along + 2 * at.q * plan.stride + 2 * at.g;
    int left = tiles.room - member * tiles.less - 2 * at.g;
    const int along = plan.members * tiles.along, less = plan.members * tiles.less;
    for (int i = member; i < tiles.count; i += plan.members, tile += along, left -= less) {
      float x[B][4];
      uint32_t a[NX][B][2];
      LSEF_UNROLL
      for (int j = 0; j < B; ++j) get_frames(tile, plan.stride, pairs, left, j, x[j]);
      split_all(x, a);
      LSEF_UNROLL
      for (int j = 0; j < B; ++j) {
        float l[4] = {}, y[4], s[4], r[4];
        multiply<T>(l, a, matrix, j);
        const Pair keep = get<Pair>(room.keep + 8 * j + 2 * at.q);
        LSEF_UNROLL
        for (int v = 0; v < 4; ++v) {
          const Parts<float> parts =
              take_apart<Whole>(x[j][v], l[v], v & 1 ? keep.high : keep.low, gates[v >> 1], p, 1.f, sums[v >> 1]);
          y[v] = parts.y;
          s[v] = parts.s;
          r[v] = parts.r;
        }
        if (!Whole) {
          put_frames(tile, plan.stride, pairs, left, j, y);
        } else {
          E* to = tile;
          const auto place = [&](const lsef_view& v, const float(&values)[4]) {
            if (!v.data) return;
            put_frames(to, plan.stride, pairs, left, j, values);
            to = (to == tile ? extra + (tile - stage) : to + plan.stage);
          };
          place(k.y, y);
          place(k.l, l);
          place(k.s, s);
          place(k.r, r);
        }
      }
    }
    const bool complete = Whole && k.sums && item.chunk + 1 == plan.chunks;
    if (complete) leave(room.slots, sums, plan, at);
    __syncthreads();
    if (!Whole) {
      give<E, T>(plan, k.size, k.y, n, item, stage);
    } else {
      E* from = stage;
      for (int i = 0; i < 4; ++i) {
        if (!outputs[i]->data) continue;
        give<E, T>(plan, k.size, *outputs[i], n, item, from);
        from = from == stage ? extra : from + plan.stage;
      }
    }
    if (complete)
      pick_up<kStatistics>(room.slots, plan, item.group * plan.channels, k.size.c, [&](int64_t c, int i, float sum) {
        static_cast<float*>(k.sums)[(n * k.size.c + c) * kStatistics + i] = sum;
      });
    item = next;
  }
}

// A block's sums over its columns, its warps' in order. Mirrored: entries below the diagonal are those above it.
template <int T>
__device__ __forceinline__ void write_squares(const float* squares, int each, bool mirrored, float* part) {
  __syncthreads();
  for (int i = threadIdx.x; i < each; i += kThreads) {
    const int t = i / T, u = i % T, from = mirrored && u < t ? u * T + t : i;
    float sum = 0.f;
    for (int w = 0; w < kWarps; ++w) sum += squares[w * each + from];
    part[i] = sum;
  }
}

// Whole: more than the gradient of y comes in. The gradient of x takes the place of x in the stage.
template <class E, int T, bool Whole>
__global__ void __launch_bounds__(kThreads, (kBackwardBlocks<E, T, Whole>))
    fast_low_rank_sparse_back_kernel(lsef_low_rank_sparse k, Plan plan, void* parts) {
  constexpr int B = T / 8, NX = PartsOf<E>::x, N = PartsOf<E>::matrix, squares = T * T + T;
  LSEF_SHARED(memory);
  const Lane at;
  const int set = at.warp / plan.members, member = at.warp % plan.members;
  const bool pairs = plan.stride % 2 == 0;
  const int64_t n = blockIdx.y;
  const Room<E, T, N> room(memory, 2, squares);
  float* square = room.squares + at.warp * squares;
  const bool with_y = !Whole || k.y.data, with_l = Whole && k.l.data, with_s = Whole && k.s.data,
             with_r = Whole && k.r.data;
  const int inputs = 1 + with_y + with_l + with_s + with_r;
  Item item = {blockIdx.x, 0};
  const auto fetch_all = [&](Item which, E* to) {
    fetch<E, T>(plan, k.size, k.x, n, which, to);
    if (with_y) fetch<E, T>(plan, k.size, k.y, n, which, to += plan.stage);
    if (with_l) fetch<E, T>(plan, k.size, k.l, n, which, to += plan.stage);
    if (with_s) fetch<E, T>(plan, k.size, k.s, n, which, to += plan.stage);
    if (with_r) fetch<E, T>(plan, k.size, k.r, n, which, to += plan.stage);
    end_group();
  };
  fetch_all(item, room.stages);
  share_words<T, N, false>(room.words, static_cast<const float*>(k.matrix) + n * T * T);
  share_words<T, N, true>(room.turned, static_cast<const float*>(k.matrix) + n * T * T);
  share_keep<T>(room.keep, k.keep, n);
  for (int i = at.lane; i < squares; i += 32) square[i] = 0.f;
  __syncthreads();
  const Matrix<T, N> matrix(room.words, at.lane), turned(room.turned, at.lane);
  const Exponent<float> p = exponent_of<float>(k.exponent);
  const bool revive = k.revival > 0;
  Square<T> sum = {};
  float to_keep[B][2] = {}, sums[2][kStatistics], gate_sums[2][3];
  Gates<float> gates[2];
  for (int turn = 0; item.group < plan.groups; turn ^= 1) {
    if (item.chunk == 0) {
      LSEF_UNROLL
      for (int h = 0; h < 2; ++h) {
        const int64_t row = n * k.size.c + channel_of(plan, k.size, item, set, at, h);
        gates[h] = gates_of<float>(k, row);
        gate_sums[h][0] = gate_sums[h][1] = gate_sums[h][2] = 0.f;
        LSEF_UNROLL
        for (int i = 0; i < kStatistics; ++i) sums[h][i] = Whole ? entry(k.sums, row * kStatistics + i, 0.f) : 0.f;
      }
    }
    const Item next = after(item, plan);
    wait_for_copies();
    __syncthreads();
    if (next.group < plan.groups) fetch_all(next, room.stages + (turn ^ 1) * inputs * plan.stage);
    E* stage = room.stages + turn * inputs * plan.stage;
    const Tiles tiles = tiles_of<E, T>(plan, k.size, item, set);
    E* tile = stage + tiles.first + member * tiles.along + 2 * at.q * plan.stride + 2 * at.g;
    int left = tiles.room - member * tiles.less - 2 * at.g;
    const int along = plan.members * tiles.along, less = plan.members * tiles.less;
    for (int i = member; i < tiles.count; i += plan.members, tile += along, left -= less) {
      float to_x[B][4];
      uint32_t a[NX][B][2], d[N][B][2];
      LSEF_UNROLL
      for (int j = 0; j < B; ++j) get_frames(tile, plan.stride, pairs, left, j, to_x[j]);
      split_all(to_x, a);
      LSEF_UNROLL
      for (int j = 0; j < B; ++j) {
        float l[4] = {}, up_y[4] = {}, up_l[4] = {}, up_s[4] = {}, up_r[4] = {}, down[4];
        multiply<T>(l, a, matrix, j);
        const E* from = tile;
        if (with_y) get_frames(from += plan.stage, plan.stride, pairs, left, j, up_y);
        if (with_l) get_frames(from += plan.stage, plan.stride, pairs, left, j, up_l);
        if (with_s) get_frames(from += plan.stage, plan.stride, pairs, left, j, up_s);
        if (with_r) get_frames(from += plan.stage, plan.stride, pairs, left, j, up_r);
        const Pair keep = get<Pair>(room.keep + 8 * j + 2 * at.q);
        LSEF_UNROLL
        for (int v = 0; v < 4; ++v) {
          const int h = v >> 1;
          GateGradients<float> found = {gate_sums[h][0], gate_sums[h][1], gate_sums[h][2]};
          const InputGradients<float> back =
              put_back<Whole, !Whole>(to_x[j][v], l[v], v & 1 ? keep.high : keep.low,
                                      {up_y[v], up_l[v], up_s[v], up_r[v]}, sums[h], gates[h], p, revive, 1.f, found);
          gate_sums[h][0] = found.tau;
          gate_sums[h][1] = found.a;
          gate_sums[h][2] = found.b;
          to_x[j][v] = back.x;
          to_keep[j][v & 1] += back.keep;
          down[v] = back.l;
        }
        LSEF_UNROLL
        for (int h = 0; h < 2; ++h) {
          uint32_t pieces[N];
          split(down[2 * h], down[2 * h + 1], pieces);
          LSEF_UNROLL
          for (int part = 0; part < N; ++part) d[part][j][h] = pieces[part];
        }
      }
      LSEF_UNROLL
      for (int j = 0; j < B; ++j) {
        multiply<T>(to_x[j], d, turned, j);
        put_frames(tile, plan.stride, pairs, left, j, to_x[j]);
      }
      transpose(a);
      transpose(d);
      add_outer_product<T, N>(sum, d, a);
    }
    collect<T>(square, sum, at);
    const bool complete = item.chunk + 1 == plan.chunks;
    if (complete) leave(room.slots, gate_sums, plan, at);
    __syncthreads();
    give<E, T>(plan, k.size, k.to_x, n, item, stage);
    if (complete)
      pick_up<3>(room.slots, plan, item.group * plan.channels, k.size.c, [&](int64_t c, int i, float sum) {
        static_cast<float*>(i == 0 ? k.to_tau : i == 1 ? k.to_a : k.to_b)[n * k.size.c + c] = sum;
      });
    item = next;
  }
  LSEF_UNROLL
  for (int j = 0; j < B; ++j) {
    LSEF_UNROLL
    for (int f = 0; f < 2; ++f) {
      float all = to_keep[j][f];
      LSEF_UNROLL
      for (int step = 4; step < 32; step *= 2) all += __shfl_xor_sync(0xffffffffu, all, step);
      if (at.g == 0) square[T * T + 8 * j + 2 * at.q + f] = all;
    }
  }
  write_squares<T>(room.squares, squares, false, static_cast<float*>(parts) + (n * gridDim.x + blockIdx.x) * squares);
}

template <class E, int T, bool Events>
__global__ void __launch_bounds__(kThreads, (kGramBlocks<E, T>))
    fast_gram_kernel(lsef_gram k, Plan plan, void* parts) {
  constexpr int B = T / 8, N = PartsOf<E>::matrix, NX = PartsOf<E>::x, NZ = kGramParts<E, Events>;
  LSEF_SHARED(memory);
  const Lane at;
  const int set = at.warp / plan.members, member = at.warp % plan.members;
  const bool pairs = plan.stride % 2 == 0;
  const int64_t n = blockIdx.y;
  const Room<E, T, N> room(memory, Events, T * T);
  float* square = room.squares + at.warp * T * T;
  Item item = {blockIdx.x, 0};
  fetch<E, T>(plan, k.size, k.x, n, item, room.stages);
  end_group();
  if (Events) {
    share_words<T, N, false>(room.words, static_cast<const float*>(k.matrix) + n * T * T);
    share_keep<T>(room.keep, k.keep, n);
  }
  for (int i = at.lane; i < T * T; i += 32) square[i] = 0.f;
  __syncthreads();
  const Matrix<T, N> matrix(room.words, at.lane, Events);
  const Exponent<float> p = exponent_of<float>(k.exponent);
  Square<T> sum = {};
  for (int turn = 0; item.group < plan.groups; turn ^= 1) {
    float tau[2] = {};
    if (Events) {
      LSEF_UNROLL
      for (int h = 0; h < 2; ++h)
        tau[h] = static_cast<const float*>(k.tau)[n * k.size.c + channel_of(plan, k.size, item, set, at, h)];
    }
    const Item next = after(item, plan);
    wait_for_copies();
    __syncthreads();
    if (next.group < plan.groups) fetch<E, T>(plan, k.size, k.x, n, next, room.stages + (turn ^ 1) * plan.stage);
    end_group();
    const Tiles tiles = tiles_of<E, T>(plan, k.size, item, set);
    const E* tile =
        room.stages + turn * plan.stage + tiles.first + member * tiles.along + 2 * at.q * plan.stride + 2 * at.g;
    int left = tiles.room - member * tiles.less - 2 * at.g;
    const int along = plan.members * tiles.along, less = plan.members * tiles.less;
    for (int i = member; i < tiles.count; i += plan.members, tile += along, left -= less) {
      float x[B][4];
      uint32_t z[NZ][B][2];
      LSEF_UNROLL
      for (int j = 0; j < B; ++j) get_frames(tile, plan.stride, pairs, left, j, x[j]);
      if constexpr (Events) {
        uint32_t a[NX][B][2];
        split_all(x, a);
        LSEF_UNROLL
        for (int j = 0; j < B; ++j) {
          float l[4] = {};
          multiply<T>(l, a, matrix, j);
          const Pair keep = get<Pair>(room.keep + 8 * j + 2 * at.q);
          LSEF_UNROLL
          for (int v = 0; v < 4; ++v)
            x[j][v] -= (v & 1 ? keep.high : keep.low) * shrunken(x[j][v] - l[v], tau[v >> 1], p, 1.f);
        }
      }
      split_all(x, z);
      transpose(z);
      add_outer_product<T, 3>(sum, z, z);
    }
    collect<T>(square, sum, at);
    item = next;
  }
  write_squares<T>(room.squares, T * T, true, static_cast<float*>(parts) + (n * gridDim.x + blockIdx.x) * T * T);
}

// ---- launching ---------------------------------------------------------------------------------------------------

// Blocks that run at once, as many as the kernel's registers and shared memory allow; asked for once per device.
template <auto Kernel> int resident_blocks(size_t shared, int64_t* blocks) {
#ifdef LSEF_EMULATE
  *blocks = 2 * kFewBlocks;
  return 0;
#else
  static std::atomic<int64_t> known{-1};
  int device = 0, each = 0, processors = 0;
  cudaError_t code = cudaGetDevice(&device);
  const int64_t key = int64_t(device) << 20 | int64_t(shared), found = known.load(std::memory_order_relaxed);
  if (code == cudaSuccess && found >= 0 && found >> 20 == key) {
    *blocks = found & 0xfffff;
    return 0;
  }
  if (code == cudaSuccess)
    code = cudaFuncSetAttribute(Kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared));
  if (code == cudaSuccess)
    code = cudaFuncSetAttribute(Kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
  if (code == cudaSuccess) code = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, Kernel, kThreads, shared);
  if (code == cudaSuccess) code = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  *blocks = int64_t(each) * processors;
  if (code == cudaSuccess) known.store(key << 20 | *blocks, std::memory_order_relaxed);
  return int(code);
#endif
}
// One wave of blocks that go through the groups of channels; several waves where there are many clips.
template <auto Kernel, class... Arguments>
int launch_fast(const lsef_size& size, const Plan& plan, size_t shared, void* stream, unsigned* blocks,
                Arguments... arguments) {
  int64_t resident = 0;
  if (const int code = resident_blocks<Kernel>(shared, &resident)) return code;
  const int64_t share = resident / size.n, wanted = share < 4 ? 4 : share, most = most_blocks(size.n, size.c);
  const int64_t count = wanted < most ? wanted : most;
  *blocks = unsigned(count < plan.groups ? count : plan.groups);
  return launch_on(Kernel, dim3(*blocks, unsigned(size.n)), dim3(kThreads), shared, stream, arguments...);
}

constexpr size_t kMostShared = 160 * 1024;      // what an sm_80 gives a block, and a bit less
constexpr int kNotHere = -100;                  // other kernels have to do it

template <class E> struct Fast {
  template <int T> static int low_rank_sparse(const lsef_low_rank_sparse& k, void* stream) {
    const lsef_view views[5] = {k.x, k.y, k.l, k.s, k.r};
    lsef_view used[5];
    int count = 0;
    for (const lsef_view& v : views) if (v.data) used[count++] = v;
    Plan plan;
    if (!find_plan<E, T>(k.size, used, count, &plan)) return kNotHere;
    const int outputs = count - 1, stages = 2 + (outputs > 1 ? outputs - 1 : 0);
    const size_t shared = Room<E, T, PartsOf<E>::matrix>::bytes(1, 0, int64_t(plan.stage) * stages);
    unsigned blocks;
    if (shared > kMostShared) return kNotHere;
    if (k.l.data || k.s.data || k.r.data || k.sums)
      return launch_fast<fast_low_rank_sparse_kernel<E, T, true>>(k.size, plan, shared, stream, &blocks, k, plan);
    return launch_fast<fast_low_rank_sparse_kernel<E, T, false>>(k.size, plan, shared, stream, &blocks, k, plan);
  }
  template <int T> static int low_rank_sparse_backward(const lsef_low_rank_sparse& k, void* parts, void* stream) {
    const lsef_view views[6] = {k.x, k.to_x, k.y, k.l, k.s, k.r};
    lsef_view used[6];
    int count = 0;
    for (const lsef_view& v : views) if (v.data) used[count++] = v;
    Plan plan;
    if (!find_plan<E, T>(k.size, used, count, &plan)) return kNotHere;
    constexpr int squares = T * T + T;
    const size_t shared = Room<E, T, PartsOf<E>::matrix>::bytes(2, squares, int64_t(plan.stage) * 2 * (count - 1));
    if (shared > kMostShared) return kNotHere;
    unsigned blocks;
    const bool whole = !k.y.data || k.l.data || k.s.data || k.r.data || k.sums;
    const int code = whole ? launch_fast<fast_low_rank_sparse_back_kernel<E, T, true>>(k.size, plan, shared, stream,
                                                                                       &blocks, k, plan, parts)
                           : launch_fast<fast_low_rank_sparse_back_kernel<E, T, false>>(k.size, plan, shared, stream,
                                                                                        &blocks, k, plan, parts);
    return code ? code : fold<float>(parts, k.size.n, blocks, squares, T * T, k.to_matrix, k.to_keep, stream);
  }
  template <int T> static int gram(const lsef_gram& k, void* parts, void* stream) {
    Plan plan;
    if (!find_plan<E, T>(k.size, &k.x, 1, &plan)) return kNotHere;
    const size_t shared = Room<E, T, PartsOf<E>::matrix>::bytes(k.matrix ? 1 : 0, T * T, int64_t(plan.stage) * 2);
    if (shared > kMostShared) return kNotHere;
    unsigned blocks;
    const int code =
        k.matrix ? launch_fast<fast_gram_kernel<E, T, true>>(k.size, plan, shared, stream, &blocks, k, plan, parts)
                 : launch_fast<fast_gram_kernel<E, T, false>>(k.size, plan, shared, stream, &blocks, k, plan, parts);
    return code ? code : fold<float>(parts, k.size.n, blocks, T * T, T * T, k.gram, nullptr, stream);
  }
};

}  // namespace lsef

// The fast kernel of this name where there is one for the job, else kNotHere.
#define LSEF_FAST(name, E, k, ...)                                                            \
  ((k).size.t == 8    ? Fast<E>::template name<8>(k, __VA_ARGS__)                             \
   : (k).size.t == 16 ? Fast<E>::template name<16>(k, __VA_ARGS__)                            \
   : (k).size.t == 32 ? Fast<E>::template name<32>(k, __VA_ARGS__)                            \
                      : kNotHere)
