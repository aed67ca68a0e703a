// CUDA's execution model on a CPU, for tests of the kernels without a GPU. Every thread of a block is a fiber, blocks
// run one after the other. What would go wrong unseen on a GPU stops here, or changes a result:
//   * a barrier or shuffle that some threads of the block or warp never reach;
//   * an access to device memory outside the registered buffers, or to shared memory beyond what was asked for (the
//     guard behind it is checked);
//   * shared memory that is read before it is written (it is filled with NaN before every block);
//   * a missing barrier: the order in which fibers run is forward, backward or random, and the results must be equal.
// Reads and writes are counted per element. Not emulated: time, and memory ordering inside a warp.
#pragma once
#include <ucontext.h>

#include <algorithm>
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
constexpr size_t kStack = 256 * 1024, kGuard = 256;
constexpr unsigned char kPoison = 0xff;       // as float or double: NaN

struct Buffer {
  const char* base;
  size_t elements, bytes;                      // bytes of one element
  std::vector<uint16_t> reads, writes;
};

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
  std::vector<uint64_t> exchanged;              // what each lane hands over, as bits
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
template <class V> V shuffle_xor(V value, int lanes) {
  State& s = state();
  const int me = s.current;
  static_assert(sizeof value <= 8, "a lane hands over a word");
  memcpy(&s.exchanged[me], &value, sizeof value);
  wait(kWarp, "shuffle, given");
  V other;
  memcpy(&other, &s.exchanged[me ^ lanes], sizeof other);
  wait(kWarp, "shuffle, taken");
  return other;
}

inline void touch(const void* p, size_t bytes, bool write) {
  const char* c = static_cast<const char*>(p);
  for (Buffer& b : state().buffers) {
    if (c < b.base || c + bytes > b.base + b.elements * b.bytes) continue;
    if (bytes != b.bytes || (c - b.base) % b.bytes) stop("access across elements");
    (write ? b.writes : b.reads)[(c - b.base) / b.bytes]++;
    return;
  }
  stop("access outside every buffer of device memory");
}

inline void enter() {
  State& s = state();
  s.body();
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
  s.exchanged.assign(threads, 0);
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
    for (int i : order)
      if (s.waits[i] == kRunning) {
        s.current = i;
        s.thread = dim3(i);
        swapcontext(&s.main_context, &s.contexts[i]);
      }
    const int done = int(std::count(s.waits.begin(), s.waits.end(), kDone));
    const int blocked = int(std::count(s.waits.begin(), s.waits.end(), kBlock));
    if (done == threads) break;
    if (blocked == threads) {
      std::fill(s.waits.begin(), s.waits.end(), kRunning);
      continue;
    }
    if (!release_warps(threads)) stop("a barrier that not all threads reach");
  }
  for (size_t i = s.shared_bytes; i < s.shared.size(); ++i)
    if (s.shared[i] != kPoison) stop("write beyond the shared memory asked for");
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
#define LSEF_SHARED(name) unsigned char* name = emulation::state().shared.data()
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
