// CUDA's execution model on a CPU, for tests of the kernels without a GPU. Every thread of a block is a fiber, blocks
// run one after the other. What would go wrong unseen on a GPU stops here, or changes a result:
//   * a barrier or shuffle that some threads of the block or warp never reach;
//   * an access to device memory outside the registered buffers, or to shared memory beyond what was asked for (the
//     guard behind it is checked);
//   * shared memory that is read before it is written (it is filled with NaN before every block);
//   * a missing barrier: fibers run in turn; or the last warp as far as it gets before the one before it begins; or
//     warps and lanes at random; and the results must be equal;
//   * an asynchronous copy that nobody waits for, or whose data is used before the wait: it arrives at the wait, and
//     the place it goes to holds NaN until then;
//   * an access of several elements that is not aligned to its size.
// Products on the tensor cores follow the tables of the PTX manual and round toward zero after exact sums, the worst
// that is seen of the hardware. Reads and writes are counted per element. Not emulated: time, and memory ordering
// inside a warp.
#pragma once
#include <ucontext.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

namespace emulation {

enum Wait { kRunning, kWarp, kBlock, kDone };
constexpr size_t kStack = 128 * 1024, kGuard = 256;
constexpr unsigned char kPoison = 0xff;       // as float or double: NaN

struct Buffer {
  const char* base;
  size_t elements, bytes;                      // bytes of one element
  std::vector<uint16_t> reads, writes;
  int64_t wide = 0;                            // accesses of 16 bytes
};

struct Copy { void* to; const void* from; };

struct State {
  dim3 thread, block, block_size, grid_size;
  std::vector<Buffer> buffers;
  std::vector<unsigned char> shared;
  size_t shared_bytes = 0;
  int order = 0;
  int64_t launches = 0;
  std::mt19937_64 random;
  ucontext_t main_context;
  std::vector<ucontext_t> contexts;
  std::vector<std::vector<char>> stacks;
  std::vector<Wait> waits;
  std::vector<const char*> places;
  std::vector<std::array<uint32_t, 6>> exchanged;   // what each lane hands over, as bits
  std::vector<std::vector<Copy>> copies;        // of each thread, still under way
  int current = 0;
  std::function<void()> body;
};
inline State& state() {
  static State s;
  return s;
}
[[noreturn]] inline void stop(const std::string& why) {
  State& s = state();
  fprintf(stderr, "emulation: %s (block %u,%u thread %u)\n", why.c_str(), s.block.x, s.block.y, s.thread.x);
  abort();
}

inline void wait(Wait kind, const char* place) {
  State& s = state();
  const int me = s.current;
  s.waits[me] = kind;
  s.places[me] = place;
  swapcontext(&s.contexts[me], &s.main_context);
}
// Shared memory as the running block has it, aligned as on a GPU.
inline unsigned char* shared_memory() {
  unsigned char* p = state().shared.data();
  return p + (16 - uintptr_t(p) % 16) % 16;
}
inline void check_shared(const void* p, size_t bytes) {
  const unsigned char *c = static_cast<const unsigned char*>(p), *first = shared_memory();
  if (uintptr_t(c) % bytes) stop("access to shared memory that is not aligned to its size");
  if (c < first || c + bytes > first + state().shared_bytes) stop("access beyond the shared memory asked for");
}
// Every lane of the warp hands over some words; those of lane i are then words(i).
template <size_t N, class Use> void exchange(const uint32_t (&given)[N], const char* place, Use use) {
  State& s = state();
  static_assert(N <= 6, "as much as a product takes");
  std::copy(given, given + N, s.exchanged[s.current].begin());
  wait(kWarp, place);
  const int first = s.current & ~31;
  use([&](int lane) -> const uint32_t* { return s.exchanged[first + lane].data(); });
  wait(kWarp, "the warp goes on");
}
template <class V> V shuffle_xor(V value, int lanes) {
  static_assert(sizeof value <= 8, "a lane hands over a word");
  uint32_t given[2] = {};
  memcpy(given, &value, sizeof value);
  exchange(given, "shuffle", [&](auto words) { memcpy(&value, words((state().current & 31) ^ lanes), sizeof value); });
  return value;
}

inline void touch(const void* p, size_t bytes, bool write) {
  const char* c = static_cast<const char*>(p);
  for (Buffer& b : state().buffers) {
    if (c < b.base || c + bytes > b.base + b.elements * b.bytes) continue;
    if (bytes % b.bytes || (c - b.base) % b.bytes) stop("access across elements");
    if (uintptr_t(c) % bytes) stop("access to device memory that is not aligned to its size");
    b.wide += bytes == 16;
    for (size_t i = 0; i < bytes / b.bytes; ++i) (write ? b.writes : b.reads)[(c - b.base) / b.bytes + i]++;
    return;
  }
  stop("access outside every buffer of device memory");
}

inline void enter() {
  State& s = state();
  s.body();
  if (!s.copies[s.current].empty()) stop("an asynchronous copy that nobody waits for");
  s.waits[s.current] = kDone;
  swapcontext(&s.contexts[s.current], &s.main_context);
}

// Lets go the warps all of whose lanes wait at the same place. Returns whether there was one.
inline bool release_warps(int threads) {
  State& s = state();
  bool any = false;
  for (int first = 0; first < threads; first += 32) {
    const int last = std::min(first + 32, threads);
    int waiting = 0;
    for (int i = first; i < last; ++i) waiting += s.waits[i] == kWarp;
    if (waiting != last - first) continue;
    for (int i = first; i < last; ++i) {
      if (strcmp(s.places[i], s.places[first])) stop("lanes of a warp wait at different barriers");
      s.waits[i] = kRunning;
    }
    any = true;
  }
  return any;
}

inline void run_block(int threads) {
  State& s = state();
  s.stacks.resize(std::max<size_t>(s.stacks.size(), threads));
  s.contexts.resize(threads);
  s.waits.assign(threads, kRunning);
  s.places.assign(threads, "");
  s.exchanged.assign(threads, {});
  s.copies.assign(threads, {});
  for (int i = 0; i < threads; ++i) {
    s.stacks[i].resize(kStack);
    getcontext(&s.contexts[i]);
    s.contexts[i].uc_stack.ss_sp = s.stacks[i].data();
    s.contexts[i].uc_stack.ss_size = kStack;
    s.contexts[i].uc_link = nullptr;
    makecontext(&s.contexts[i], reinterpret_cast<void (*)()>(enter), 0);
  }
  std::fill(s.shared.begin(), s.shared.end(), kPoison);
  std::vector<int> order(threads);
  for (int i = 0; i < threads; ++i) order[i] = s.order == 1 ? threads - 1 - i : i;
  for (;;) {
    if (s.order == 2) std::shuffle(order.begin(), order.end(), s.random);
    int warp = -1;                               // the only one to run; -1: all
    for (int i : order)
      if (s.order && warp < 0 && s.waits[i] == kRunning) warp = i / 32;
    for (int i : order)
      if (s.waits[i] == kRunning && (warp < 0 || warp == i / 32)) {
        s.current = i;
        s.thread = dim3(i);
        swapcontext(&s.main_context, &s.contexts[i]);
      }
    const auto count = [&](Wait kind) { return int(std::count(s.waits.begin(), s.waits.end(), kind)); };
    if (count(kDone) == threads) break;
    if (count(kBlock) == threads) {
      std::fill(s.waits.begin(), s.waits.end(), kRunning);
      continue;
    }
    if (!release_warps(threads) && !count(kRunning)) stop("a barrier that not all threads reach");
  }
  for (unsigned char* p = shared_memory() + s.shared_bytes; p < s.shared.data() + s.shared.size(); ++p)
    if (*p != kPoison) stop("write beyond the shared memory asked for");
}

template <class Body> void launch(dim3 grid, dim3 block, size_t shared, Body body) {
  State& s = state();
  ++s.launches;
  s.grid_size = grid;
  s.block_size = block;
  s.shared_bytes = shared;
  s.shared.resize(shared + kGuard);
  s.body = body;
  for (unsigned y = 0; y < grid.y; ++y)
    for (unsigned x = 0; x < grid.x; ++x) {
      s.block = dim3(x, y);
      run_block(int(block.x));
    }
}

}  // namespace emulation

#define threadIdx (emulation::state().thread)
#define blockIdx (emulation::state().block)
#define gridDim (emulation::state().grid_size)
#define __syncthreads() emulation::wait(emulation::kBlock, "block barrier")
#define __syncwarp() emulation::wait(emulation::kWarp, "warp barrier")
#define __shfl_xor_sync(mask, value, lanes) emulation::shuffle_xor(value, lanes)
#define LSEF_SHARED(name) unsigned char* name = emulation::shared_memory()
#define LSEF_LAUNCH(kernel, grid, block, shared, stream, ...) \
  emulation::launch(grid, block, shared, [=] { (kernel)(__VA_ARGS__); })

namespace lsef {
template <class E> inline E read(const E* p) {
  emulation::touch(p, sizeof(E), false);
  return *p;
}
template <class E> inline void write(E* p, E v) {
  emulation::touch(p, sizeof(E), true);
  *p = v;
}
template <class To, class From> inline To same_bits(From v) {
  To out;
  static_assert(sizeof out == sizeof v, "the same bits");
  memcpy(&out, &v, sizeof out);
  return out;
}
// ---- csrc/instructions.h ---------------------------------------------------------------------------------------
uint32_t pack(float low, float high);
uint32_t pack_half(float low, float high);
inline float bfloat(uint32_t pair, int place) { return same_bits<float>(place ? pair & 0xffff0000u : pair << 16); }
inline float toward_zero(double v) {
  const float f = float(v);
  return std::fabs(double(f)) > std::fabs(v) && std::isfinite(v) ? std::nextafterf(f, 0.f) : f;
}
// What every lane has of c += a b, by the tables for mma.m16n8k8 and mma.m16n8k16 with 16-bit operands.
template <int Words> inline void product(float (&c)[4], const uint32_t (&given)[Words], const char* place) {
  constexpr int K = Words == 6 ? 16 : 8;
  emulation::exchange(given, place, [&](auto words) {
    const int lane = emulation::state().current & 31, g = lane / 4, q = lane % 4;
    for (int i = 0; i < 4; ++i) {
      const int row = g + i / 2 * 8, column = 2 * q + i % 2;
      double sum = c[i];
      for (int k = 0; k < K; ++k) {
        // a[row, k] is in lane 4 (row % 8) + k % 8 / 2, b[k, column] in lane 4 column + k % 8 / 2.
        const uint32_t a = words(4 * (row % 8) + k % 8 / 2)[row / 8 + k / 8 * 2];
        const uint32_t b = words(4 * column + k % 8 / 2)[K / 4 + k / 8];
        sum += double(bfloat(a, k % 2)) * double(bfloat(b, k % 2));
      }
      c[i] = toward_zero(sum);
    }
  });
}
inline void multiply8(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t b0) {
  product<3>(c, {a0, a1, b0}, "product of 8");
}
inline void multiply16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
  product<6>(c, {a0, a1, a2, a3, b0, b1}, "product of 16");
}
inline uint32_t transposed(uint32_t a) {
  uint32_t out = 0;
  emulation::exchange({a}, "transpose", [&](auto words) {
    const int lane = emulation::state().current & 31;
    for (int i = 0; i < 2; ++i) {                       // out[row][column] = in[column][row]
      const int row = lane / 4, column = lane % 4 * 2 + i;
      out |= (words(column * 4 + row / 2)[0] >> (row % 2 * 16) & 0xffffu) << (16 * i);
    }
  });
  return out;
}
inline void copy16(void* to, const void* from) {
  emulation::touch(from, 16, false);
  emulation::check_shared(to, 16);
  memset(to, emulation::kPoison, 16);
  emulation::state().copies[emulation::state().current].push_back({to, from});
}
inline void end_group() {}
inline void wait_for_copies() {
  auto& mine = emulation::state().copies[emulation::state().current];
  for (const emulation::Copy& copy : mine) memcpy(copy.to, copy.from, 16);
  mine.clear();
}
inline void store16(void* to, const void* from) {
  emulation::check_shared(from, 16);
  emulation::touch(to, 16, true);
  memcpy(to, from, 16);
}
template <class V> inline V get(const void* p) {
  emulation::check_shared(p, sizeof(V));
  return *static_cast<const V*>(p);
}
template <class V> inline void put(void* p, V v) {
  emulation::check_shared(p, sizeof(V));
  *static_cast<V*>(p) = v;
}

inline int32_t bits_of(float v) { return same_bits<int32_t>(v); }
inline int64_t bits_of(double v) { return same_bits<int64_t>(v); }
inline float value_of(int32_t v) { return same_bits<float>(v); }
inline double value_of(int64_t v) { return same_bits<double>(v); }
inline float widen(float v) { return v; }
inline double widen(double v) { return v; }
inline float widen(struct bf16 v);
inline float widen(struct f16 v);
inline void narrow(float v, float* o) { *o = v; }
inline void narrow(double v, double* o) { *o = v; }
inline void narrow(float v, struct bf16* o);
inline void narrow(float v, struct f16* o);
}  // namespace lsef
