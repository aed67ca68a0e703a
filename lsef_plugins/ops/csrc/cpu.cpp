// CPU kernels. A task takes one (n, c) after the other and of it a tile of up to 208 columns with all T frames, small
// enough to stay in the nearest caches: whatever the formula, features are read once and results written once.
// One source is compiled for three instruction sets (target_clones), the running CPU chooses: no -march=native.
// Sums run over fixed pieces of the data in a fixed order: results do not depend on the number of threads by a bit.
#include "kernels.h"

#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "lanes.h"   // before maths.h, whose templates call its exponential()
#include "maths.h"

namespace lsef {
namespace {

constexpr int kTile = 208;      // columns of a tile: a map of 14 x 14 is one, read as it lies in memory
constexpr int kMaxT = LSEF_CPU_MAX_FRAMES;
constexpr int kChunk = 32;      // channels whose matrix gradients are summed before they are written

template <class A> using Rows = A[kMaxT * kTile];

// ---- elements: in and out of the accumulation type ---------------------------------------------------------------

struct bf16 { uint16_t bits; };
struct f16 { uint16_t bits; };

template <class To, class From> LSEF_INLINE To cast(From v) {
  static_assert(sizeof(To) == sizeof(From), "the same bits");
  To out;
  memcpy(&out, &v, sizeof out);
  return out;
}
LSEF_INLINE float widen(float v) { return v; }
LSEF_INLINE double widen(double v) { return v; }
LSEF_INLINE float widen(bf16 h) { return cast<float>(uint32_t(h.bits) << 16); }
LSEF_INLINE float widen(f16 h) {
  const uint32_t sign = uint32_t(h.bits & 0x8000) << 16, rest = uint32_t(h.bits & 0x7fff) << 13;
  const float finite = cast<float>(rest) * cast<float>(uint32_t(254 - 15) << 23);     // times 2^112, also if subnormal
  const uint32_t bits = rest >= (31u << 23) ? rest | (255u << 23) : cast<uint32_t>(finite);
  return cast<float>(bits | sign);
}
LSEF_INLINE void narrow(float v, float* o) { *o = v; }
LSEF_INLINE void narrow(double v, double* o) { *o = v; }
LSEF_INLINE void narrow(float v, bf16* o) {       // to the nearest, of two the even one
  const uint32_t u = cast<uint32_t>(v), rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  o->bits = uint16_t((u & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}
LSEF_INLINE void narrow(float v, f16* o) {
  const uint32_t u = cast<uint32_t>(v), sign = (u >> 16) & 0x8000u, m = u & 0x7fffffffu;
  const uint32_t normal = (m - (112u << 23) + 0xfffu + ((m >> 13) & 1u)) >> 13;
  const uint32_t subnormal = cast<uint32_t>(cast<float>(m) + 0.5f) - cast<uint32_t>(0.5f);   // adds in steps of 2^-24
  const uint32_t beyond = m > (255u << 23) ? 0x7e00u : 0x7c00u;
  o->bits = uint16_t(sign | (m >= (143u << 23) ? beyond : m < (113u << 23) ? subnormal : normal));
}

// Moves `rows` rows of w elements between a tensor, whose rows are `stride` apart and its elements `step`, and a tile.
template <class A> struct Port {
  void (*load)(const void* from, int64_t stride, int64_t step, int rows, int w, A* to);
  void (*store)(const A* from, int64_t stride, int64_t step, int rows, int w, void* to);
  int64_t bytes;
};
template <class E, class A>
LSEF_INLINE void load_rows(const void* from, int64_t stride, int64_t step, int rows, int w, A* tile) {
  for (int t = 0; t < rows; ++t) {
    const E* __restrict e = static_cast<const E*>(from) + t * stride;
    A* __restrict to = tile + t * kTile;
    if (step == 1) for (int i = 0; i < w; ++i) to[i] = widen(e[i]);
    else for (int i = 0; i < w; ++i) to[i] = widen(e[i * step]);
  }
}
template <class E, class A>
LSEF_INLINE void store_rows(const A* tile, int64_t stride, int64_t step, int rows, int w, void* to) {
  for (int t = 0; t < rows; ++t) {
    const A* __restrict from = tile + t * kTile;
    E* __restrict e = static_cast<E*>(to) + t * stride;
    if (step == 1) for (int i = 0; i < w; ++i) narrow(from[i], e + i);
    else for (int i = 0; i < w; ++i) narrow(from[i], e + i * step);
  }
}
#define LSEF_PORT(E, A)                                                                                     \
  LSEF_CLONES void load_##E(const void* from, int64_t stride, int64_t step, int rows, int w, A* to) {       \
    load_rows<E, A>(from, stride, step, rows, w, to);                                                       \
  }                                                                                                         \
  LSEF_CLONES void store_##E(const A* from, int64_t stride, int64_t step, int rows, int w, void* to) {      \
    store_rows<E, A>(from, stride, step, rows, w, to);                                                      \
  }
LSEF_PORT(float, float)
LSEF_PORT(double, double)
LSEF_PORT(bf16, float)
LSEF_PORT(f16, float)

template <class A> Port<A> port_of(int dtype);
template <> Port<double> port_of<double>(int) { return {load_double, store_double, 8}; }
template <> Port<float> port_of<float>(int dtype) {
  if (dtype == LSEF_BF16) return {load_bf16, store_bf16, 2};
  if (dtype == LSEF_F16) return {load_f16, store_f16, 2};
  return {load_float, store_float, 4};
}

// ---- tiles -------------------------------------------------------------------------------------------------------

struct Tile { int64_t first; int w, padded; };      // columns first .. first + w; vectors cover `padded`

template <class A> LSEF_INLINE Tile tile_at(int64_t first, int64_t columns) {
  const int w = int(columns - first < kTile ? columns - first : kTile);
  return {first, w, (w + kLanes<A> - 1) / kLanes<A> * kLanes<A>};
}
LSEF_INLINE char* at(const lsef_view& v, int64_t bytes, int64_t n, int64_t c, int64_t t, int64_t p) {
  return static_cast<char*>(v.data) + (n * v.n + c * v.c + t * v.t + p * v.p) * bytes;
}
// Columns beyond the tensor's and frames T .. `frames` become zero.
template <class A>
LSEF_INLINE void load_tile(const Port<A>& port, const lsef_view& v, int64_t n, int64_t c, const Tile& tile, int T,
                           int frames, A* rows, int64_t every = 1) {
  const int there = v.data ? T : 0;
  if (there) port.load(at(v, port.bytes, n, c, 0, tile.first * every), v.t, v.p * every, T, tile.w, rows);
  for (int t = 0; t < frames; ++t)
    for (int i = t < there ? tile.w : 0; i < tile.padded; ++i) rows[t * kTile + i] = A(0);
}
template <class A>
LSEF_INLINE void store_tile(const Port<A>& port, const lsef_view& v, int64_t n, int64_t c, const Tile& tile, int T,
                            const A* rows) {
  if (v.data) port.store(rows, v.t, v.p, T, tile.w, at(v, port.bytes, n, c, 0, tile.first));
}
// Asks for a tile that is loaded later, if it lies in one piece: the arithmetic then hides the wait.
LSEF_INLINE void fetch(const lsef_view& v, int64_t bytes, const lsef_size& size, int64_t row, const Tile& tile) {
  if (row >= size.n * size.c || v.p != 1 || v.t != size.p || tile.w != size.p) return;
  const char* from = at(v, bytes, row / size.c, row % size.c, 0, 0);
  for (int64_t i = 0; i < size.t * size.p * bytes; i += 64) __builtin_prefetch(from + i, 0, 2);
}
template <class A> LSEF_INLINE Vector<A>& lanes(A* rows, int t, int i) {
  return *reinterpret_cast<Vector<A>*>(rows + t * kTile + i);
}
template <class A> LSEF_INLINE A sum_of(Vector<A> v) {
  A s = 0;
  for (int i = 0; i < kLanes<A>; ++i) s += v[i];
  return s;
}
template <class A> LSEF_INLINE Vector<A> all(A v) { return Vector<A>{} + v; }
template <class A> LSEF_INLINE A entry(const void* data, int64_t i, A otherwise) {
  return data ? static_cast<const A*>(data)[i] : otherwise;
}
LSEF_INLINE int padded_frames(int T) { return (T + 3) / 4 * 4; }

#if defined(__x86_64__) && defined(__GNUC__) && !defined(LSEF_ONE_INSTRUCTION_SET)
const bool kManyRegisters = (__builtin_cpu_init(), __builtin_cpu_supports("avx512f"));
#elif defined(__x86_64__) && !defined(__AVX512F__)
constexpr bool kManyRegisters = false;
#else
constexpr bool kManyRegisters = true;
#endif

// The T x T matrix of clip n, or its transpose, with rows and columns filled up to a multiple of four; four rows at a
// time, column after column.
template <class A> LSEF_INLINE void load_matrix(const void* data, int64_t n, int T, bool transpose, A* out) {
  const A* m = static_cast<const A*>(data) + n * T * T;
  const int P = padded_frames(T);
  for (int t = 0; t < P; ++t)
    for (int u = 0; u < P; ++u) out[t / 4 * 4 * P + u * 4 + t % 4] = t < T && u < T ? (transpose ? m[u * T + t] : m[t * T + u]) : A(0);
}

// out = M in, or out += M in: blocks of 4 frames x `Block` vectors stay in registers. `m` points at the block's four
// rows of M (load_matrix).
template <bool Add, int Block, class A>
LSEF_INLINE void multiply_block(const A* m, int T, A* in, A* out, int t, int i) {
  constexpr int L = kLanes<A>;
  Vector<A> sum[4 * Block] = {};
  for (int u = 0; u < T; ++u) {
    Vector<A> x[Block];
    LSEF_UNROLL
    for (int b = 0; b < Block; ++b) x[b] = lanes<A>(in, u, i + b * L);
    LSEF_UNROLL
    for (int j = 0; j < 4; ++j) {
      const Vector<A> v = all<A>(m[4 * u + j]);
      LSEF_UNROLL
      for (int b = 0; b < Block; ++b) sum[j * Block + b] += v * x[b];
    }
  }
  LSEF_UNROLL
  for (int j = 0; j < 4; ++j) {
    LSEF_UNROLL
    for (int b = 0; b < Block; ++b) {
      Vector<A>& o = lanes<A>(out, t + j, i + b * L);
      o = Add ? o + sum[j * Block + b] : sum[j * Block + b];
    }
  }
}
template <bool Add, class A> LSEF_INLINE void multiply(const A* m, int T, A* in, int padded, A* out) {
  constexpr int L = kLanes<A>;
  const int P = padded_frames(T);
  for (int t = 0; t < P; t += 4, m += 4 * P) {
    int i = 0, left = padded / L;
    // 16 registers hold the sums of one vector of 64 bytes, 32 those of four.
    if (!kManyRegisters) for (; left; --left, i += L) multiply_block<Add, 1>(m, T, in, out, t, i);
    // One vector alone would wait for its own sums: 5 are taken as 3 + 2.
    for (; left > 5 || left == 4; left -= 4, i += 4 * L) multiply_block<Add, 4>(m, T, in, out, t, i);
    if (left == 5 || left == 3) multiply_block<Add, 3>(m, T, in, out, t, i), left -= 3, i += 3 * L;
    if (left == 2) multiply_block<Add, 2>(m, T, in, out, t, i);
    if (left == 1) multiply_block<Add, 1>(m, T, in, out, t, i);
  }
}

// The lanes of D X^T, 4 x 4 frames at a time: sums[t][u] += d_t x_u.
template <class A> LSEF_INLINE void add_outer(A* d, A* x, int P, int padded, Vector<A>* sums) {
  for (int t = 0; t < P; t += 4)
    for (int u = 0; u < P; u += 4, sums += 16) {
      Vector<A> s[16];
      LSEF_UNROLL
      for (int j = 0; j < 16; ++j) s[j] = sums[j];
      for (int i = 0; i < padded; i += kLanes<A>) {
        Vector<A> xs[4];
        LSEF_UNROLL
        for (int j = 0; j < 4; ++j) xs[j] = lanes<A>(x, u + j, i);
        LSEF_UNROLL
        for (int j = 0; j < 4; ++j) {
          const Vector<A> v = lanes<A>(d, t + j, i);
          LSEF_UNROLL
          for (int k = 0; k < 4; ++k) s[4 * j + k] += v * xs[k];
        }
      }
      LSEF_UNROLL
      for (int j = 0; j < 16; ++j) sums[j] = s[j];
    }
}
template <class A> LSEF_INLINE void write_outer(const Vector<A>* sums, int T, A* out) {
  const int blocks = padded_frames(T) / 4;
  for (int t = 0; t < T; ++t)
    for (int u = 0; u < T; ++u)
      out[t * T + u] = sum_of<A>(sums[(t / 4 * blocks + u / 4) * 16 + t % 4 * 4 + u % 4]);
}

template <class A> LSEF_INLINE Exponent<Vector<A>> exponent_of(int exponent) {
  return {all<A>(exponent == LSEF_SOFT), all<A>(exponent == LSEF_GARROTE)};
}
// 1 / (revival tau), the inverse width of the sigmoid that stands for the step at the threshold
template <class A> LSEF_INLINE A inverse_width(double revival, A tau) {
  const A tiny = std::is_same<A, double>::value ? A(2.2250738585072014e-308) : A(1.17549435e-38f);
  const A width = A(revival) * tau;
  return A(1) / (width < tiny ? tiny : width);
}
template <class A> LSEF_INLINE Gates<Vector<A>> gates_of(const lsef_low_rank_sparse& k, int64_t row) {
  const A tau = static_cast<const A*>(k.tau)[row];
  return {all<A>(tau), all<A>(inverse_width<A>(k.revival, tau)), all<A>(entry<A>(k.a, row, 0)),
          all<A>(entry<A>(k.b, row, 0)), k.a != nullptr, k.b != nullptr};
}

// ---- low_rank_sparse ---------------------------------------------------------------------------------------------

template <class A, bool Sums>
LSEF_INLINE void low_rank_sparse_rows(const lsef_low_rank_sparse& k, int64_t begin, int64_t end) {
  const int T = int(k.size.t);
  const Port<A> port = port_of<A>(k.dtype);
  const Exponent<Vector<A>> p = exponent_of<A>(k.exponent);
  const Vector<A> one = all<A>(1);
  alignas(64) Rows<A> x, l, s, r;
  alignas(64) A m[kMaxT * kMaxT];
  int64_t loaded = -1;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t n = row / k.size.c, c = row % k.size.c;
    if (n != loaded) load_matrix<A>(k.matrix, loaded = n, T, false, m);
    const Gates<Vector<A>> gates = gates_of<A>(k, row);
    Vector<A> sums[kStatistics] = {};
    for (int64_t first = 0; first < k.size.p; first += kTile) {
      const Tile tile = tile_at<A>(first, k.size.p);
      load_tile<A>(port, k.x, n, c, tile, T, T, x);
      fetch(k.x, port.bytes, k.size, row + 1, tile);
      multiply<false, A>(m, T, x, tile.padded, l);
      for (int t = 0; t < T; ++t) {
        const Vector<A> keep = all<A>(entry<A>(k.keep, n * T + t, 1));
        for (int i = 0; i < tile.padded; i += kLanes<A>) {
          const Parts<Vector<A>> parts =
              take_apart<Sums>(lanes<A>(x, t, i), lanes<A>(l, t, i), keep, gates, p, one, sums);
          lanes<A>(x, t, i) = parts.y;
          if (k.s.data) lanes<A>(s, t, i) = parts.s;
          if (k.r.data) lanes<A>(r, t, i) = parts.r;
        }
      }
      store_tile<A>(port, k.y, n, c, tile, T, x);
      store_tile<A>(port, k.l, n, c, tile, T, l);
      store_tile<A>(port, k.s, n, c, tile, T, s);
      store_tile<A>(port, k.r, n, c, tile, T, r);
    }
    if (Sums && k.sums)
      for (int j = 0; j < kStatistics; ++j) static_cast<A*>(k.sums)[row * kStatistics + j] = sum_of<A>(sums[j]);
  }
}

// Channels c0 .. c1 of clip n; `part` receives their share of the gradients of the matrix (t, t) and of keep (t).
template <class A, bool Sums>
LSEF_INLINE void low_rank_sparse_back(const lsef_low_rank_sparse& k, int64_t n, int64_t c0, int64_t c1, A* part) {
  const int T = int(k.size.t), P = padded_frames(T);
  const Port<A> port = port_of<A>(k.dtype);
  const Exponent<Vector<A>> p = exponent_of<A>(k.exponent);
  const Vector<A> one = all<A>(1);
  alignas(64) Rows<A> x, l, to_y, to_l, to_s, to_r;
  alignas(64) A m[kMaxT * kMaxT], transposed[kMaxT * kMaxT];
  alignas(64) Vector<A> outer[kMaxT * kMaxT];
  Vector<A> to_keep[kMaxT] = {};
  memset(outer, 0, sizeof(Vector<A>) * P * P);
  for (int t = T; t < P; ++t) memset(to_l + t * kTile, 0, sizeof(A) * kTile);
  load_matrix<A>(k.matrix, n, T, false, m);
  load_matrix<A>(k.matrix, n, T, true, transposed);
  for (int64_t c = c0; c < c1; ++c) {
    const int64_t row = n * k.size.c + c;
    const Gates<Vector<A>> gates = gates_of<A>(k, row);
    GateGradients<Vector<A>> gate_gradients = {};
    Vector<A> sums[kStatistics];
    for (int j = 0; j < kStatistics; ++j) sums[j] = all<A>(entry<A>(k.sums, row * kStatistics + j, 0));
    for (int64_t first = 0; first < k.size.p; first += kTile) {
      const Tile tile = tile_at<A>(first, k.size.p);
      load_tile<A>(port, k.x, n, c, tile, T, P, x);
      load_tile<A>(port, k.y, n, c, tile, T, T, to_y);
      if (k.l.data) load_tile<A>(port, k.l, n, c, tile, T, T, to_l);
      if (k.s.data) load_tile<A>(port, k.s, n, c, tile, T, T, to_s);
      if (k.r.data) load_tile<A>(port, k.r, n, c, tile, T, T, to_r);
      fetch(k.x, port.bytes, k.size, row + 1, tile);
      if (k.y.data) fetch(k.y, port.bytes, k.size, row + 1, tile);
      multiply<false, A>(m, T, x, tile.padded, l);
      for (int t = 0; t < T; ++t) {
        const Vector<A> keep = all<A>(entry<A>(k.keep, n * T + t, 1));
        for (int i = 0; i < tile.padded; i += kLanes<A>) {
          const Vector<A> none = {};
          const PartGradients<Vector<A>> up = {
              lanes<A>(to_y, t, i), k.l.data ? lanes<A>(to_l, t, i) : none, k.s.data ? lanes<A>(to_s, t, i) : none,
              k.r.data ? lanes<A>(to_r, t, i) : none};
          const InputGradients<Vector<A>> down = put_back<Sums>(lanes<A>(x, t, i), lanes<A>(l, t, i), keep, up, sums,
                                                                gates, p, k.revival > 0, one, gate_gradients);
          lanes<A>(to_y, t, i) = down.x;
          lanes<A>(to_l, t, i) = down.l;
          to_keep[t] += down.keep;
        }
      }
      multiply<true, A>(transposed, T, to_l, tile.padded, to_y);
      add_outer<A>(to_l, x, P, tile.padded, outer);
      store_tile<A>(port, k.to_x, n, c, tile, T, to_y);
    }
    static_cast<A*>(k.to_tau)[row] = sum_of<A>(gate_gradients.tau);
    if (k.to_a) static_cast<A*>(k.to_a)[row] = sum_of<A>(gate_gradients.a);
    if (k.to_b) static_cast<A*>(k.to_b)[row] = sum_of<A>(gate_gradients.b);
  }
  write_outer<A>(outer, T, part);
  for (int t = 0; t < T; ++t) part[T * T + t] = sum_of<A>(to_keep[t]);
}

// ---- gram --------------------------------------------------------------------------------------------------------

template <class A> LSEF_INLINE void gram_part(const lsef_gram& k, int64_t n, int64_t c0, int64_t c1, A* part) {
  const int T = int(k.size.t), P = padded_frames(T);
  const Port<A> port = port_of<A>(k.dtype);
  const Exponent<Vector<A>> p = exponent_of<A>(k.exponent);
  alignas(64) Rows<A> x, l;
  alignas(64) A m[kMaxT * kMaxT];
  alignas(64) Vector<A> outer[kMaxT * kMaxT];
  memset(outer, 0, sizeof(Vector<A>) * P * P);
  if (k.matrix) load_matrix<A>(k.matrix, n, T, false, m);
  for (int64_t c = c0; c < c1; ++c)
    for (int64_t first = 0; first < k.size.p; first += kTile) {
      const Tile tile = tile_at<A>(first, k.size.p);
      load_tile<A>(port, k.x, n, c, tile, T, P, x);
      if (k.matrix) {
        const Vector<A> tau = all<A>(static_cast<const A*>(k.tau)[n * k.size.c + c]);
        multiply<false, A>(m, T, x, tile.padded, l);
        for (int t = 0; t < T; ++t) {
          const A keep = entry<A>(k.keep, n * T + t, 1);
          for (int i = 0; i < tile.padded; i += kLanes<A>)
            lanes<A>(x, t, i) -= keep * shrunken(lanes<A>(x, t, i) - lanes<A>(l, t, i), tau, p, all<A>(1));
        }
      }
      add_outer<A>(x, x, P, tile.padded, outer);
    }
  write_outer<A>(outer, T, part);
}

// ---- residual_scale ----------------------------------------------------------------------------------------------

// The lower median of `count` values that are not negative, by bisecting their bit patterns, which are in the same
// order; NaN if there is one.
template <class A, class Bits> LSEF_INLINE A lower_median(const A* values, int count) {
  const Bits infinite = cast<Bits>(A(INFINITY));
  const Bits* __restrict bits = reinterpret_cast<const Bits*>(values);
  Bits low = infinite, high = 0, broken = 0;
  for (int i = 0; i < count; ++i) {
    low = bits[i] < low ? bits[i] : low;
    high = bits[i] > high ? bits[i] : high;
  }
  broken = high > infinite;
  if (broken) return A(NAN);
  const int wanted = (count - 1) / 2 + 1;
  while (low < high) {
    const Bits middle = low + (high - low) / 2;
    int below = 0;
    for (int i = 0; i < count; ++i) below += bits[i] <= middle;
    if (below >= wanted) high = middle; else low = middle + 1;
  }
  return cast<A>(low);
}

template <class A> LSEF_INLINE void residual_scale_rows(const lsef_residual_scale& k, int64_t begin, int64_t end) {
  using Bits = typename std::conditional<std::is_same<A, double>::value, int64_t, int32_t>::type;
  const int T = int(k.size.t);
  const Port<A> port = port_of<A>(k.dtype);
  const int64_t total = T * k.size.p, every = total > k.sample ? (total + k.sample - 1) / k.sample : 1;
  const int64_t columns = (k.size.p + every - 1) / every;
  alignas(64) Rows<A> x, l;
  alignas(64) A m[kMaxT * kMaxT];
  A values[LSEF_MAX_SAMPLE + kMaxT];
  int64_t loaded = -1;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t n = row / k.size.c, c = row % k.size.c;
    if (k.matrix && n != loaded) load_matrix<A>(k.matrix, loaded = n, T, false, m);
    Vector<A> energy = {};
    int count = 0;
    for (int64_t first = 0; first < columns; first += kTile) {
      const Tile tile = tile_at<A>(first, columns);
      load_tile<A>(port, k.x, n, c, tile, T, T, x, every);
      if (k.matrix) multiply<false, A>(m, T, x, tile.padded, l);
      else load_tile<A>(port, k.r, n, c, tile, T, T, l, every);
      for (int t = 0; t < T; ++t) {
        if (every == 1) for (int i = 0; i < tile.padded; i += kLanes<A>) energy += lanes<A>(x, t, i) * lanes<A>(x, t, i);
        for (int i = 0; i < tile.w; ++i) {
          const A v = x[t * kTile + i], r = std::fabs(k.matrix ? v - l[t * kTile + i] : l[t * kTile + i]);
          values[count] = r;
          count += counts(v, r);
        }
      }
    }
    if (every > 1)
      for (int64_t first = 0; first < k.size.p; first += kTile) {
        const Tile tile = tile_at<A>(first, k.size.p);
        load_tile<A>(port, k.x, n, c, tile, T, T, x);
        for (int t = 0; t < T; ++t)
          for (int i = 0; i < tile.padded; i += kLanes<A>) energy += lanes<A>(x, t, i) * lanes<A>(x, t, i);
      }
    const A floor = total ? A(k.floor_ratio) * std::sqrt(sum_of<A>(energy) / A(total)) : A(0);
    const A spread = count ? A(k.to_sigma) * lower_median<A, Bits>(values, count) : A(0);
    static_cast<A*>(k.scale)[row] = spread < floor || floor != floor ? floor : spread;
  }
}

// ---- scale_shrink ------------------------------------------------------------------------------------------------

struct Span { int from, to; };      // the frames a centred average at frame t takes in
LSEF_INLINE Span span_at(int t, int half, int T) {
  return {t - half < 0 ? 0 : t - half, t + half >= T ? T : t + half + 1};
}
// A row of the average, 1 / length in each place, has the norm 1 / sqrt(length).
template <class A> LSEF_INLINE A norm_of(const Span& s) { return A(1) / std::sqrt(A(s.to - s.from)); }

template <class A> LSEF_INLINE Vector<A> averaged(A* rows, const Span& s, int i) {
  if (s.to - s.from == 1) return lanes<A>(rows, s.from, i);
  Vector<A> sum = {};
  for (int u = s.from; u < s.to; ++u) sum += lanes<A>(rows, u, i);
  return sum * (A(1) / A(s.to - s.from));
}

template <class A> LSEF_INLINE void scale_shrink_rows(const lsef_scale_shrink& k, int64_t begin, int64_t end) {
  const int T = int(k.size.t);
  const Port<A> port = port_of<A>(k.dtype);
  const Exponent<Vector<A>> p = exponent_of<A>(k.exponent);
  const Vector<A> one = all<A>(1);
  alignas(64) Rows<A> r, s, m;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t n = row / k.size.c, c = row % k.size.c;
    const A tau = static_cast<const A*>(k.tau)[row], limit = entry<A>(k.limit, row, INFINITY);
    for (int64_t first = 0; first < k.size.p; first += kTile) {
      const Tile tile = tile_at<A>(first, k.size.p);
      load_tile<A>(port, k.r, n, c, tile, T, T, r);
      for (int w = 0; w < k.windows; ++w) {
        for (int t = 0; t < T; ++t) {
          const Span span = span_at(t, k.half[w], T);
          const A norm = norm_of<A>(span);
          for (int i = 0; i < tile.padded; i += kLanes<A>) {
            const Vector<A> v = clipped(shrunken(averaged<A>(r, span, i), all<A>(tau * norm), p, one),
                                        all<A>(limit * norm));
            lanes<A>(s, t, i) = v;
            lanes<A>(m, t, i) = magnitude(v);
          }
        }
        store_tile<A>(port, k.s[w], n, c, tile, T, s);
        store_tile<A>(port, k.m[w], n, c, tile, T, m);
      }
    }
  }
}

template <class A> LSEF_INLINE void scale_shrink_back(const lsef_scale_shrink& k, int64_t begin, int64_t end) {
  const int T = int(k.size.t);
  const Port<A> port = port_of<A>(k.dtype);
  const Exponent<Vector<A>> p = exponent_of<A>(k.exponent);
  const Vector<A> one = all<A>(1);
  alignas(64) Rows<A> r, to_r, to_s, to_m;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t n = row / k.size.c, c = row % k.size.c;
    const A tau = static_cast<const A*>(k.tau)[row], limit = entry<A>(k.limit, row, INFINITY);
    Vector<A> to_tau = {};
    for (int64_t first = 0; first < k.size.p; first += kTile) {
      const Tile tile = tile_at<A>(first, k.size.p);
      load_tile<A>(port, k.r, n, c, tile, T, T, r);
      for (int t = 0; t < T; ++t) memset(to_r + t * kTile, 0, sizeof(A) * tile.padded);
      for (int w = 0; w < k.windows; ++w) {
        if (!k.s[w].data && !k.m[w].data) continue;
        load_tile<A>(port, k.s[w], n, c, tile, T, T, to_s);
        load_tile<A>(port, k.m[w], n, c, tile, T, T, to_m);
        for (int t = 0; t < T; ++t) {
          const Span span = span_at(t, k.half[w], T);
          const A norm = norm_of<A>(span), share = A(1) / A(span.to - span.from);
          const Vector<A> tau_t = all<A>(tau * norm), bound = all<A>(limit * norm);
          const Vector<A> width = all<A>(inverse_width<A>(k.revival, tau * norm));
          for (int i = 0; i < tile.padded; i += kLanes<A>) {
            const Vector<A> v = averaged<A>(r, span, i), free = shrunken(v, tau_t, p, one);
            Vector<A> up = lanes<A>(to_s, t, i) + sign(free, one) * lanes<A>(to_m, t, i);
            up = magnitude(free) > bound ? Vector<A>{} : up;
            const Slopes<Vector<A>> slope = slopes(v, tau_t, p, k.revival > 0, width, one);
            to_tau += up * slope.tau * norm;
            const Vector<A> down = up * slope.r * share;
            for (int u = span.from; u < span.to; ++u) lanes<A>(to_r, u, i) += down;
          }
        }
      }
      store_tile<A>(port, k.to_r, n, c, tile, T, to_r);
    }
    static_cast<A*>(k.to_tau)[row] = sum_of<A>(to_tau);
  }
}

// ---- tasks -------------------------------------------------------------------------------------------------------

// Work that ends in sums over channels: chunks of channels write their parts, which are then added in order.
template <class Job> struct Chunked {
  const Job* job;
  char* parts;
  int64_t chunks, entries;
};

#define LSEF_ROWS(name, Job, A)                                                           \
  LSEF_CLONES void name##_##A(int64_t begin, int64_t end, void* context) {                \
    name<A>(*static_cast<const Job*>(context), begin, end);                               \
  }
// The sums of low_rank_sparse are rarely asked for and cost as much as the rest of the element-wise work. For double,
// which only checks gradients, one kernel is enough.
template <class A> LSEF_INLINE void low_rank_sparse_rows(const lsef_low_rank_sparse& k, int64_t begin, int64_t end) {
  if (k.sums || sizeof(A) == 8) low_rank_sparse_rows<A, true>(k, begin, end);
  else low_rank_sparse_rows<A, sizeof(A) == 8>(k, begin, end);
}
template <class A>
LSEF_INLINE void low_rank_sparse_back(const lsef_low_rank_sparse& k, int64_t n, int64_t c0, int64_t c1, A* part) {
  if (k.sums || sizeof(A) == 8) low_rank_sparse_back<A, true>(k, n, c0, c1, part);
  else low_rank_sparse_back<A, sizeof(A) == 8>(k, n, c0, c1, part);
}
#define LSEF_CHUNKS(name, Job, A)                                                                         \
  LSEF_CLONES void name##_##A(int64_t begin, int64_t end, void* context) {                                \
    const Chunked<Job>& w = *static_cast<const Chunked<Job>*>(context);                                   \
    for (int64_t i = begin; i < end; ++i) {                                                               \
      const int64_t c0 = i % w.chunks * kChunk, c = w.job->size.c;                                        \
      name<A>(*w.job, i / w.chunks, c0, c0 + kChunk < c ? c0 + kChunk : c,                                \
              reinterpret_cast<A*>(w.parts) + i * w.entries);                                             \
    }                                                                                                     \
  }
LSEF_ROWS(low_rank_sparse_rows, lsef_low_rank_sparse, float)
LSEF_ROWS(low_rank_sparse_rows, lsef_low_rank_sparse, double)
LSEF_CHUNKS(low_rank_sparse_back, lsef_low_rank_sparse, float)
LSEF_CHUNKS(low_rank_sparse_back, lsef_low_rank_sparse, double)
LSEF_CHUNKS(gram_part, lsef_gram, float)
LSEF_CHUNKS(gram_part, lsef_gram, double)
LSEF_ROWS(residual_scale_rows, lsef_residual_scale, float)
LSEF_ROWS(residual_scale_rows, lsef_residual_scale, double)
LSEF_ROWS(scale_shrink_rows, lsef_scale_shrink, float)
LSEF_ROWS(scale_shrink_rows, lsef_scale_shrink, double)
LSEF_ROWS(scale_shrink_back, lsef_scale_shrink, float)
LSEF_ROWS(scale_shrink_back, lsef_scale_shrink, double)

constexpr int64_t kGrain = 16;

template <class Job> int run_rows(const Job* job, lsef_parallel parallel, lsef_range single, lsef_range wide) {
  if (job->size.t > kMaxT) return LSEF_TOO_MANY_FRAMES;
  const int64_t rows = job->size.n * job->size.c;
  if (rows) parallel(rows, kGrain, job->dtype == LSEF_F64 ? wide : single, const_cast<Job*>(job));
  return LSEF_DONE;
}

template <class A> void add_up(const char* parts, int64_t n, int64_t chunks, int64_t entries, int64_t square,
                               void* matrix, void* rest) {
  const A* part = reinterpret_cast<const A*>(parts) + n * chunks * entries;
  for (int64_t j = 0; j < entries; ++j) {
    A sum = 0;
    for (int64_t i = 0; i < chunks; ++i) sum += part[i * entries + j];
    if (j < square) static_cast<A*>(matrix)[n * square + j] = sum;
    else if (rest) static_cast<A*>(rest)[n * (entries - square) + j - square] = sum;
  }
}

template <class Job>
int run_chunks(const Job* job, lsef_parallel parallel, lsef_range single, lsef_range wide, int64_t extra,
               void* matrix, void* rest) {
  if (job->size.t > kMaxT) return LSEF_TOO_MANY_FRAMES;
  const bool is_wide = job->dtype == LSEF_F64;
  const int64_t square = job->size.t * job->size.t, entries = square + extra;
  const int64_t chunks = (job->size.c + kChunk - 1) / kChunk, tasks = job->size.n * chunks;
  char* parts = static_cast<char*>(malloc(size_t(tasks * entries * (is_wide ? 8 : 4)) + 1));
  if (!parts) return LSEF_NO_MEMORY;
  Chunked<Job> work = {job, parts, chunks, entries};
  if (tasks) parallel(tasks, 1, is_wide ? wide : single, &work);
  for (int64_t n = 0; n < job->size.n; ++n)
    (is_wide ? add_up<double> : add_up<float>)(parts, n, chunks, entries, square, matrix, rest);
  free(parts);
  return LSEF_DONE;
}

}  // namespace
}  // namespace lsef

extern "C" {
int lsef_cpu_low_rank_sparse(const lsef_low_rank_sparse* job, lsef_parallel parallel) {
  return lsef::run_rows(job, parallel, lsef::low_rank_sparse_rows_float, lsef::low_rank_sparse_rows_double);
}
int lsef_cpu_low_rank_sparse_backward(const lsef_low_rank_sparse* job, lsef_parallel parallel) {
  return lsef::run_chunks(job, parallel, lsef::low_rank_sparse_back_float, lsef::low_rank_sparse_back_double,
                          job->size.t, job->to_matrix, job->to_keep);
}
int lsef_cpu_gram(const lsef_gram* job, lsef_parallel parallel) {
  return lsef::run_chunks(job, parallel, lsef::gram_part_float, lsef::gram_part_double, 0, job->gram, nullptr);
}
int lsef_cpu_residual_scale(const lsef_residual_scale* job, lsef_parallel parallel) {
  return lsef::run_rows(job, parallel, lsef::residual_scale_rows_float, lsef::residual_scale_rows_double);
}
int lsef_cpu_scale_shrink(const lsef_scale_shrink* job, lsef_parallel parallel) {
  return lsef::run_rows(job, parallel, lsef::scale_shrink_rows_float, lsef::scale_shrink_rows_double);
}
int lsef_cpu_scale_shrink_backward(const lsef_scale_shrink* job, lsef_parallel parallel) {
  return lsef::run_rows(job, parallel, lsef::scale_shrink_back_float, lsef::scale_shrink_back_double);
}
const char* lsef_cpu_instruction_set(void) {
#if defined(__x86_64__) && defined(__GNUC__) && !defined(LSEF_ONE_INSTRUCTION_SET)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")) return "x86-64-v4";
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "x86-64-v3";
#endif
  return "baseline";
}
}

#include "cpu_frame_shrink.h"
