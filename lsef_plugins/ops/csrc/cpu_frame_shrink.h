// The CPU kernels of frame_shrink, the last part of cpu.cpp, with whose tiles they work: chunks of channels leave their
// sums, which are added in order; then every (n, c) is scaled. No result depends on the number of threads.
#pragma once

namespace lsef {
namespace {

// The job and what is known of its frames by now, (n, windows, t) each: gain, and what the norm adds along the frame.
struct FrameJob : lsef_frame_shrink {
  void *gain, *along;
};
template <class A> LSEF_INLINE const A* table(const void* data, const FrameJob& k, int64_t n) {
  return static_cast<const A*>(data) + n * k.windows * k.size.t;
}
template <class A> LSEF_INLINE A frame_tau(const FrameJob& k, int64_t n, int w, int t) {
  const int T = int(k.size.t);
  return static_cast<const A*>(k.tau)[n * T + t] * norm_of<A>(span_at(t, k.half[w], T));
}

template <class A> LSEF_INLINE void frame_norms_part(const FrameJob& k, int64_t n, int64_t c0, int64_t c1, A* part) {
  const int T = int(k.size.t);
  const Port<A> port = port_of<A>(k.dtype);
  alignas(64) Rows<A> r;
  alignas(64) Vector<A> squares[LSEF_MAX_WINDOWS * kMaxT];
  memset(squares, 0, sizeof(Vector<A>) * k.windows * T);
  for (int64_t c = c0; c < c1; ++c)
    for (int64_t first = 0; first < k.size.p; first += kTile) {
      const Tile tile = tile_at<A>(first, k.size.p);
      load_tile<A>(port, k.r, n, c, tile, T, T, r);
      for (int w = 0; w < k.windows; ++w)
        for (int t = 0; t < T; ++t) {
          const Span span = span_at(t, k.half[w], T);
          Vector<A> sum = {};
          for (int i = 0; i < tile.padded; i += kLanes<A>) {
            const Vector<A> v = averaged<A>(r, span, i);
            sum += v * v;
          }
          squares[w * T + t] += sum;
        }
    }
  for (int i = 0; i < k.windows * T; ++i) part[i] = sum_of<A>(squares[i]);
}

template <class A> LSEF_INLINE void frame_shrink_rows(const FrameJob& k, int64_t begin, int64_t end) {
  const int T = int(k.size.t);
  const Port<A> port = port_of<A>(k.dtype);
  alignas(64) Rows<A> r, s, m;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t n = row / k.size.c, c = row % k.size.c;
    const A limit = entry<A>(k.limit, row, INFINITY);
    const A* gain = table<A>(k.gain, k, n);
    for (int64_t first = 0; first < k.size.p; first += kTile) {
      const Tile tile = tile_at<A>(first, k.size.p);
      load_tile<A>(port, k.r, n, c, tile, T, T, r);
      for (int w = 0; w < k.windows; ++w) {
        for (int t = 0; t < T; ++t) {
          const Span span = span_at(t, k.half[w], T);
          const Vector<A> scale = all<A>(gain[w * T + t]), bound = all<A>(limit * norm_of<A>(span));
          for (int i = 0; i < tile.padded; i += kLanes<A>) {
            const Vector<A> v = clipped(averaged<A>(r, span, i) * scale, bound);
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

// The gradient of the shrunk frame, through the limit and the magnitude.
template <class A>
LSEF_INLINE Vector<A> frame_gradient(Vector<A> free, Vector<A> bound, Vector<A> to_s, Vector<A> to_m) {
  const Vector<A> up = to_s + sign(free, all<A>(1)) * to_m;
  return magnitude(free) > bound ? Vector<A>{} : up;
}

template <class A> LSEF_INLINE void frame_dots_part(const FrameJob& k, int64_t n, int64_t c0, int64_t c1, A* part) {
  const int T = int(k.size.t);
  const Port<A> port = port_of<A>(k.dtype);
  alignas(64) Rows<A> r, to_s, to_m;
  alignas(64) Vector<A> dots[LSEF_MAX_WINDOWS * kMaxT];
  memset(dots, 0, sizeof(Vector<A>) * k.windows * T);
  const A* gain = table<A>(k.gain, k, n);
  for (int64_t c = c0; c < c1; ++c) {
    const A limit = entry<A>(k.limit, n * k.size.c + c, INFINITY);
    for (int64_t first = 0; first < k.size.p; first += kTile) {
      const Tile tile = tile_at<A>(first, k.size.p);
      load_tile<A>(port, k.r, n, c, tile, T, T, r);
      for (int w = 0; w < k.windows; ++w) {
        if (!k.s[w].data && !k.m[w].data) continue;
        load_tile<A>(port, k.s[w], n, c, tile, T, T, to_s);
        load_tile<A>(port, k.m[w], n, c, tile, T, T, to_m);
        for (int t = 0; t < T; ++t) {
          const Span span = span_at(t, k.half[w], T);
          const Vector<A> scale = all<A>(gain[w * T + t]), bound = all<A>(limit * norm_of<A>(span));
          Vector<A> sum = {};
          for (int i = 0; i < tile.padded; i += kLanes<A>) {
            const Vector<A> v = averaged<A>(r, span, i);
            sum += v * frame_gradient<A>(v * scale, bound, lanes<A>(to_s, t, i), lanes<A>(to_m, t, i));
          }
          dots[w * T + t] += sum;
        }
      }
    }
  }
  for (int i = 0; i < k.windows * T; ++i) part[i] = sum_of<A>(dots[i]);
}

template <class A> LSEF_INLINE void frame_shrink_back(const FrameJob& k, int64_t begin, int64_t end) {
  const int T = int(k.size.t);
  const Port<A> port = port_of<A>(k.dtype);
  alignas(64) Rows<A> r, to_r, to_s, to_m;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t n = row / k.size.c, c = row % k.size.c;
    const A limit = entry<A>(k.limit, row, INFINITY);
    const A *gain = table<A>(k.gain, k, n), *along = table<A>(k.along, k, n);
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
          const Vector<A> scale = all<A>(gain[w * T + t]), bound = all<A>(limit * norm_of<A>(span));
          const Vector<A> more = all<A>(along[w * T + t]);
          const A share = A(1) / A(span.to - span.from);
          for (int i = 0; i < tile.padded; i += kLanes<A>) {
            const Vector<A> v = averaged<A>(r, span, i);
            const Vector<A> up =
                frame_gradient<A>(v * scale, bound, lanes<A>(to_s, t, i), lanes<A>(to_m, t, i));
            const Vector<A> down = (scale * up + more * v) * share;
            for (int u = span.from; u < span.to; ++u) lanes<A>(to_r, u, i) += down;
          }
        }
      }
      store_tile<A>(port, k.to_r, n, c, tile, T, to_r);
    }
  }
}

LSEF_CHUNKS(frame_norms_part, FrameJob, float)
LSEF_CHUNKS(frame_norms_part, FrameJob, double)
LSEF_CHUNKS(frame_dots_part, FrameJob, float)
LSEF_CHUNKS(frame_dots_part, FrameJob, double)
LSEF_ROWS(frame_shrink_rows, FrameJob, float)
LSEF_ROWS(frame_shrink_rows, FrameJob, double)
LSEF_ROWS(frame_shrink_back, FrameJob, float)
LSEF_ROWS(frame_shrink_back, FrameJob, double)

// Memory that is given back when its owner leaves.
struct Memory {
  void* data;
  explicit Memory(int64_t bytes) : data(malloc(size_t(bytes) + 1)) {}
  ~Memory() { free(data); }
};

// The sums that `chunk` leaves for each chunk of channels, added in order: (n, windows, t).
template <class A>
int sum_frames(const FrameJob& k, lsef_parallel parallel, lsef_range chunk, A* sums) {
  const int64_t entries = k.windows * k.size.t, chunks = (k.size.c + kChunk - 1) / kChunk, tasks = k.size.n * chunks;
  const Memory parts(tasks * entries * int64_t(sizeof(A)));
  if (!parts.data) return LSEF_NO_MEMORY;
  Chunked<FrameJob> work = {&k, static_cast<char*>(parts.data), chunks, entries};
  if (tasks) parallel(tasks, 1, chunk, &work);
  for (int64_t n = 0; n < k.size.n; ++n)
    add_up<A>(static_cast<const char*>(parts.data), n, chunks, entries, entries, sums, nullptr);
  return LSEF_DONE;
}
template <class A> int find_norms(const FrameJob& k, lsef_parallel parallel) {
  A* norms = static_cast<A*>(k.norms);
  const int code =
      sum_frames<A>(k, parallel, sizeof(A) == 8 ? frame_norms_part_double : frame_norms_part_float, norms);
  if (code == LSEF_DONE)
    for (int64_t i = 0; i < k.size.n * k.windows * k.size.t; ++i) norms[i] = std::sqrt(norms[i]);
  return code;
}
template <class A> Exponent<A> single_exponent(int exponent) {
  return {A(exponent == LSEF_SOFT), A(exponent == LSEF_GARROTE)};
}
// What use(n, w, t, place, norm, tau) makes of every frame.
template <class A, class Use> void each_frame(const FrameJob& k, Use use) {
  int64_t place = 0;
  for (int64_t n = 0; n < k.size.n; ++n)
    for (int w = 0; w < k.windows; ++w)
      for (int t = 0; t < k.size.t; ++t, ++place)
        use(n, w, t, place, static_cast<const A*>(k.norms)[place], frame_tau<A>(k, n, w, t));
}
template <class A> void find_gains(const FrameJob& k) {
  const Exponent<A> p = single_exponent<A>(k.exponent);
  each_frame<A>(k, [&](int64_t, int, int, int64_t place, A norm, A tau) {
    static_cast<A*>(k.gain)[place] = frame_gain(norm, tau, p);
  });
}

template <class A> int frame_norms(const FrameJob& k, lsef_parallel parallel) { return find_norms<A>(k, parallel); }

template <class A> int frame_shrink(FrameJob& k, lsef_parallel parallel) {
  const Memory gain(k.size.n * k.windows * k.size.t * int64_t(sizeof(A)));
  if (!gain.data) return LSEF_NO_MEMORY;
  k.gain = gain.data;
  const int code = k.known ? LSEF_DONE : find_norms<A>(k, parallel);
  if (code != LSEF_DONE) return code;
  find_gains<A>(k);
  return run_rows(&k, parallel, frame_shrink_rows_float, frame_shrink_rows_double);
}

template <class A> int frame_shrink_backward(FrameJob& k, lsef_parallel parallel) {
  const int64_t bytes = k.size.n * k.windows * k.size.t * int64_t(sizeof(A)), T = k.size.t;
  const Memory gain(bytes), along(bytes);
  if (!gain.data || !along.data) return LSEF_NO_MEMORY;
  k.gain = gain.data;
  k.along = along.data;
  find_gains<A>(k);
  A *dots = static_cast<A*>(along.data), *to_tau = static_cast<A*>(k.to_tau);     // along takes the place of the dots
  const int code =
      sum_frames<A>(k, parallel, sizeof(A) == 8 ? frame_dots_part_double : frame_dots_part_float, dots);
  if (code != LSEF_DONE) return code;
  const Exponent<A> p = single_exponent<A>(k.exponent);
  for (int64_t i = 0; i < k.size.n * T; ++i) to_tau[i] = 0;
  each_frame<A>(k, [&](int64_t n, int w, int t, int64_t place, A norm, A tau) {
    const FrameSlopes<A> slope =
        frame_slopes(norm, tau, dots[place], p, k.revival > 0, inverse_width<A>(k.revival, tau));
    dots[place] = slope.along;
    to_tau[n * T + t] += slope.tau * norm_of<A>(span_at(t, k.half[w], int(T)));
  });
  return run_rows(&k, parallel, frame_shrink_back_float, frame_shrink_back_double);
}

#define LSEF_FRAMES(name)                                                                     \
  int lsef_cpu_##name(const lsef_frame_shrink* job, lsef_parallel parallel) {                 \
    if (job->size.t > lsef::kMaxT) return LSEF_TOO_MANY_FRAMES;                               \
    lsef::FrameJob k = {*job, nullptr, nullptr};                                              \
    return job->dtype == LSEF_F64 ? lsef::name<double>(k, parallel) : lsef::name<float>(k, parallel); \
  }

}  // namespace
}  // namespace lsef

extern "C" {
LSEF_FRAMES(frame_norms)
LSEF_FRAMES(frame_shrink)
LSEF_FRAMES(frame_shrink_backward)
}
