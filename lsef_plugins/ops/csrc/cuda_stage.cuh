// How the fast kernels see device memory: in pieces ("stages") that lie in shared memory while they are worked on,
// fetched by 16-byte asynchronous copies while the one before is computed, written back by 16-byte stores.
//
// What a warp computes is a tile: 16 columns (an element of each frame) x T frames. A stage is in memory
//   linear  (n, c, t, p) contiguous, any p: whole channels, which follow each other without a gap;
//   rows    positions side by side, 8 or more of 16 bytes each, in any order of the other axes: a piece of each row of
//           one or four channels;
//   last    channels side by side (channels_last_3d): 16 or 64 channels of some positions.
// In the first two the columns of a tile are positions of one channel, in the last channels of one position. Four sets
// of channels go to four warps, or, where there are few channels or a long row, one set to all four (`members`).
//
// Why these sizes: a large GPU must have some 30 KB of reads under way per multiprocessor to hide the latency of its
// memory. A stage is 8 KB, one is under way per block and input, and registers and
// shared memory leave room for 4 to 8 blocks. Rows of shared memory are padded by 16 bytes, so that the lanes of a tile
// read 32 different banks; linear stages cannot be and take what the number of positions gives.
#pragma once
#include "instructions.h"
#include "kernels.h"

namespace lsef {

enum { kLinear, kRows, kLast };

struct Plan {
  int mode, members, shift;     // a line of a stage is 2^shift columns: positions (rows) or channels (last)
  int channels, per_set;        // of a stage, of a set
  int64_t positions, groups, chunks;  // a stage is (group of channels, chunk of positions)
  int stride, stage;            // elements from frame to frame, of a stage
};

template <class E> constexpr int kVector = 16 / sizeof(E);
template <class E, int T> constexpr int kColumns = 8 * 1024 / (T * int(sizeof(E)));
template <class E, int T> constexpr int kStride = kColumns<E, T> + kVector<E>;

struct Item { int64_t group, chunk; };
__device__ __forceinline__ Item after(Item item, const Plan& plan) {
  if (item.chunk + 1 < plan.chunks) return {item.group, item.chunk + 1};
  return {item.group + gridDim.x, 0};
}

// Calls move(in the stage, in device memory) for every 16 bytes of the stage that exist.
template <class E, int T, class Move>
__device__ __forceinline__ void for_vectors(const Plan& plan, const lsef_size& size, const lsef_view& v, int64_t n,
                                            Item item, E* stage, Move move) {
  const int64_t c = item.group * plan.channels, p = item.chunk * plan.positions;
  E* from = static_cast<E*>(v.data) + n * v.n + c * v.c;
  if (plan.mode == kLinear) {
    const int64_t channels = size.c - c < plan.channels ? size.c - c : plan.channels;
    const int total = int(channels * T * size.p);
    LSEF_UNROLL_BY(2)
    for (int i = threadIdx.x * kVector<E>; i < total; i += kThreads * kVector<E>) move(stage + i, from + i);
    return;
  }
  constexpr int across = kColumns<E, T> / kVector<E>, step = kThreads / across;
  const int column = threadIdx.x % across * kVector<E>, first = threadIdx.x / across;
  const int line = column >> plan.shift, inner = column & ((1 << plan.shift) - 1);
  const bool last = plan.mode == kLast;
  if (c + (last ? inner : line) >= size.c || p + (last ? line : inner) >= size.p) return;
  from += (last ? (p + line) * v.p + inner : line * v.c + p + inner) + first * v.t;
  stage += column + first * kStride<E, T>;
  LSEF_UNROLL
  for (int t = 0; t < T; t += step) {
    move(stage, from);
    stage += step * kStride<E, T>;
    from += step * v.t;
  }
}
template <class E, int T>
__device__ __forceinline__ void fetch(const Plan& plan, const lsef_size& size, const lsef_view& v, int64_t n, Item item,
                                      E* stage) {
  for_vectors<E, T>(plan, size, v, n, item, stage, [](E* to, const E* from) { copy16(to, from); });
}
template <class E, int T>
__device__ __forceinline__ void give(const Plan& plan, const lsef_size& size, const lsef_view& v, int64_t n, Item item,
                                     E* stage) {
  for_vectors<E, T>(plan, size, v, n, item, stage, [](const E* from, E* to) { store16(to, from); });
}

// The tiles of a warp in a stage: tile i begins at first + i * along and has room - i * less columns that exist.
struct Tiles { int count, first, along, room, less; };
template <class E, int T>
__device__ __forceinline__ Tiles tiles_of(const Plan& plan, const lsef_size& size, Item item, int set) {
  const int64_t c = item.group * plan.channels + set * plan.per_set, p = item.chunk * plan.positions;
  if (c >= size.c) return {0, 0, 0, 0, 0};
  const int64_t left = size.p - p < plan.positions ? size.p - p : plan.positions;
  if (plan.mode == kLast) {
    const int64_t room = size.c - c < 16 ? size.c - c : 16;
    return {int(left), 16 * set, 1 << plan.shift, int(room), 0};
  }
  const int first = plan.mode == kLinear ? set * T * int(size.p) : set << plan.shift;
  return {int(left + 15) / 16, first, 16, int(left), 16};
}

// ---- choosing ----------------------------------------------------------------------------------------------------

// Sets of channels in four, below which half of a large GPU would be idle. The emulated GPU is a small one.
#ifdef LSEF_EMULATE
constexpr int kFewBlocks = 4;
#else
constexpr int kFewBlocks = 264;
#endif

inline bool in_steps_of(int64_t vector, const lsef_size& size, const lsef_view& v) {
  return reinterpret_cast<uintptr_t>(v.data) % 16 == 0 && (size.n == 1 || v.n % vector == 0);
}
template <class E, int T> bool is_linear(const lsef_size& size, const lsef_view& v) {
  return in_steps_of(kVector<E>, size, v) && (size.p == 1 || v.p == 1) && v.t == size.p &&
         (size.c == 1 || v.c == T * size.p);
}
template <class E> bool has_rows(const lsef_size& size, const lsef_view& v) {
  return in_steps_of(kVector<E>, size, v) && size.p % kVector<E> == 0 && v.p == 1 && v.t % kVector<E> == 0 &&
         (size.c == 1 || v.c % kVector<E> == 0);
}
template <class E> bool is_channels_last(const lsef_size& size, const lsef_view& v) {
  return in_steps_of(kVector<E>, size, v) && size.c % kVector<E> == 0 && v.c == 1 && v.t % kVector<E> == 0 &&
         (size.p == 1 || v.p % kVector<E> == 0);
}

// Whether there is a way through features that lie like this, all alike; `Plan` is that way.
template <class E, int T> bool find_plan(const lsef_size& size, const lsef_view* views, int count, Plan* plan) {
  constexpr int tiles = kColumns<E, T> / 64;
  if (size.c == 0 || size.p == 0) return false;
  bool linear = T * size.p * int64_t(sizeof(E)) <= 24 * 1024, rows = true, last = true;
  for (int i = 0; i < count; ++i) {
    linear = linear && is_linear<E, T>(size, views[i]);
    rows = rows && has_rows<E>(size, views[i]);
    last = last && is_channels_last<E>(size, views[i]);
  }
  if (rows && size.p >= 64) linear = false;
  if (!linear && !rows && !last) return false;
  plan->mode = linear ? kLinear : last ? kLast : kRows;
  plan->per_set = plan->mode == kLast ? 16 : 1;
  const int64_t sets = (size.c + plan->per_set - 1) / plan->per_set;
  const bool alone = sets * size.n / 4 >= kFewBlocks && (!linear || 4 * T * size.p * int64_t(sizeof(E)) <= 8 * 1024);
  plan->members = alone ? 1 : 4;
  plan->channels = plan->per_set * (4 / plan->members);
  plan->shift = 0;
  const int width = plan->mode == kLast ? plan->channels : 16 * tiles * plan->members;
  while (1 << plan->shift < width) ++plan->shift;
  plan->positions = linear ? size.p : plan->mode == kLast ? tiles * plan->members : width;
  plan->groups = (size.c + plan->channels - 1) / plan->channels;
  plan->chunks = (size.p + plan->positions - 1) / plan->positions;
  plan->stride = linear ? int(size.p) : kStride<E, T>;
  plan->stage = linear ? plan->channels * T * int(size.p) : T * kStride<E, T>;
  return true;
}

}  // namespace lsef
