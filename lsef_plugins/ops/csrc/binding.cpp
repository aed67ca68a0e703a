// The operators as torch sees them, on PyTorch's stable ABI: the one file with torch headers, and no Python symbol in
// it. A library built once serves every Python and every torch from 2.10 on.
#include <dlfcn.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cmath>
#include <initializer_list>
#include <optional>
#include <tuple>
#include <vector>

#include "kernels.h"

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Maybe = std::optional<Tensor>;

int code_of(ScalarType type) {
  switch (type) {
    case ScalarType::Float: return LSEF_F32;
    case ScalarType::Double: return LSEF_F64;
    case ScalarType::BFloat16: return LSEF_BF16;
    case ScalarType::Half: return LSEF_F16;
    default: STD_TORCH_CHECK(false, "lsef: features are float32, float64, bfloat16 or float16");
  }
  return -1;
}
ScalarType sums_of(ScalarType type) { return type == ScalarType::Double ? type : ScalarType::Float; }

int code_of(double exponent) {
  STD_TORCH_CHECK(exponent == 1 || exponent == 2 || std::isinf(exponent),
                  "lsef: the compiled shrinkage knows the exponents 1, 2 and inf, got ", exponent);
  return exponent == 1 ? LSEF_SOFT : exponent == 2 ? LSEF_GARROTE : LSEF_HARD;
}

lsef_size size_of(const Tensor& x) {
  STD_TORCH_CHECK(x.dim() == 4, "lsef: features are (n, c, t, p), got ", x.dim(), " axes");
  return {x.size(0), x.size(1), x.size(2), x.size(3)};
}
// A pointer of another device would be followed without a warning.
void check_device(const Tensor& x, const Tensor& other, const char* name) {
  STD_TORCH_CHECK(other.get_device_index() == x.get_device_index() && other.is_cuda() == x.is_cuda(), "lsef: ", name,
                  " must lie on the device of the features");
}
lsef_view view_of(const Tensor& x, const lsef_size& size, ScalarType type, const char* name) {
  STD_TORCH_CHECK(x.dim() == 4 && x.size(0) == size.n && x.size(1) == size.c && x.size(2) == size.t &&
                      x.size(3) == size.p && x.scalar_type() == type,
                  "lsef: ", name, " must have the shape (n, c, t, p) and the dtype of the features");
  return {x.data_ptr(), x.stride(0), x.stride(1), x.stride(2), x.stride(3)};
}
lsef_view view_of(const Tensor& x, const Maybe& other, const lsef_size& size, ScalarType type, const char* name) {
  if (!other) return {};
  check_device(x, *other, name);
  return view_of(*other, size, type, name);
}
const void* plain(const Tensor& like, const Tensor& x, std::initializer_list<int64_t> shape, ScalarType type,
                  const char* name) {
  check_device(like, x, name);
  bool fits = x.dim() == int64_t(shape.size()) && x.is_contiguous() && x.scalar_type() == type;
  int64_t axis = 0;
  if (fits) for (int64_t length : shape) fits = fits && x.size(axis++) == length;
  STD_TORCH_CHECK(fits, "lsef: ", name, " must be contiguous, of its shape, float64 with float64 features, else float32");
  return x.const_data_ptr();
}
const void* plain(const Tensor& like, const Maybe& x, std::initializer_list<int64_t> shape, ScalarType type,
                  const char* name) {
  return x ? plain(like, *x, shape, type, name) : nullptr;
}
Tensor empty(const Tensor& like, std::initializer_list<int64_t> shape, ScalarType type) {
  return torch::stable::new_empty(like, torch::headeronly::IntHeaderOnlyArrayRef(shape.begin(), shape.size()), type);
}

void parallel(int64_t count, int64_t grain, lsef_range run, void* context) {
  torch::stable::parallel_for(0, count, grain, [=](int64_t begin, int64_t end) { run(begin, end, context); });
}
void check(int code) {
  STD_TORCH_CHECK(code != LSEF_TOO_MANY_FRAMES, "lsef: too many frames for the compiled operator");
  STD_TORCH_CHECK(code != LSEF_NO_MEMORY, "lsef: no memory for the partial sums");
  STD_TORCH_CHECK(code == LSEF_DONE, "lsef: kernel failed with code ", code);
}

#ifdef LSEF_WITH_CUDA
// Looked up when it is first needed, because a torch without CUDA has none and must load the library too.
void* current_stream(int32_t device) {
  using Get = AOTITorchError (*)(int32_t, void**);
  static const Get get = [] {
    void* torch_cuda = dlopen("libtorch_cuda.so", RTLD_NOLOAD | RTLD_LAZY);
    return torch_cuda ? reinterpret_cast<Get>(dlsym(torch_cuda, "aoti_torch_get_current_cuda_stream")) : nullptr;
  }();
  void* stream = nullptr;
  STD_TORCH_CHECK(get && get(device, &stream) == 0, "lsef: torch gives no current CUDA stream");
  return stream;
}
#endif

// The job on the device of x. Those that sum over channels need memory for the sums of the blocks.
template <class Job>
void run(const Tensor& x, const Job& job, int (*cpu)(const Job*, lsef_parallel),
         int (*cuda)(const Job*, void*, void*), bool sums) {
  if (!x.is_cuda()) return check(cpu(&job, parallel));
#ifdef LSEF_WITH_CUDA
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  const Tensor parts = empty(x, {sums ? lsef_cuda_part_bytes(&job.size) / 8 : 0}, ScalarType::Double);
  const int code = cuda(&job, parts.mutable_data_ptr(), current_stream(x.get_device_index()));
  if (code > 0) STD_TORCH_CHECK(false, "lsef: CUDA kernel: ", lsef_cuda_error(code));
  check(code);
#else
  (void)cuda, (void)sums;
  STD_TORCH_CHECK(false, "lsef: the library was built without CUDA");
#endif
}
#ifdef LSEF_WITH_CUDA
#define LSEF_RUN(name, x, job, sums) run(x, job, lsef_cpu_##name, lsef_cuda_##name, sums)
#else
#define LSEF_RUN(name, x, job, sums) run(x, job, lsef_cpu_##name, {}, sums)
#endif

// The same with as many bytes for sums as the job says itself.
template <class Job>
void run_with(int64_t bytes, const Tensor& x, const Job& job, int (*cpu)(const Job*, lsef_parallel),
              int (*cuda)(const Job*, void*, void*)) {
  if (!x.is_cuda()) return check(cpu(&job, parallel));
#ifdef LSEF_WITH_CUDA
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  const Tensor parts = empty(x, {bytes / 8}, ScalarType::Double);
  const int code = cuda(&job, parts.mutable_data_ptr(), current_stream(x.get_device_index()));
  if (code > 0) STD_TORCH_CHECK(false, "lsef: CUDA kernel: ", lsef_cuda_error(code));
  check(code);
#else
  (void)bytes, (void)cuda;
  STD_TORCH_CHECK(false, "lsef: the library was built without CUDA");
#endif
}
#ifdef LSEF_WITH_CUDA
#define LSEF_RUN_WITH(bytes, name, x, job) run_with(bytes, x, job, lsef_cpu_##name, lsef_cuda_##name)
#define LSEF_FRAME_BYTES(job) lsef_cuda_frame_part_bytes(&(job).size, (job).windows)
#else
#define LSEF_RUN_WITH(bytes, name, x, job) run_with(bytes, x, job, lsef_cpu_##name, {})
#define LSEF_FRAME_BYTES(job) 0
#endif

lsef_low_rank_sparse describe(const Tensor& x, const Tensor& matrix, const Tensor& tau, const Maybe& keep,
                              const Maybe& a, const Maybe& b, double exponent) {
  const lsef_size z = size_of(x);
  const ScalarType sums = sums_of(x.scalar_type());
  lsef_low_rank_sparse k{};
  k.dtype = code_of(x.scalar_type());
  k.exponent = code_of(exponent);
  k.size = z;
  k.x = view_of(x, z, x.scalar_type(), "x");
  k.matrix = plain(x, matrix, {z.n, z.t, z.t}, sums, "operator");
  k.tau = plain(x, tau, {z.n, z.c}, sums, "tau");
  k.keep = plain(x, keep, {z.n, z.t}, sums, "keep");
  k.a = plain(x, a, {z.n, z.c}, sums, "a");
  k.b = plain(x, b, {z.n, z.c}, sums, "b");
  return k;
}

// Bits of `outputs`: 1 y, 2 stable, 4 transient, 8 residual, 16 sums. What is not asked for comes back empty. The
// revival, here and in scale_shrink, is what the gradient has to know.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> low_rank_sparse(
    const Tensor& x, const Tensor& matrix, const Tensor& tau, const Maybe& keep, const Maybe& a, const Maybe& b,
    double exponent, double, int64_t outputs) {
  lsef_low_rank_sparse k = describe(x, matrix, tau, keep, a, b, exponent);
  const ScalarType type = x.scalar_type(), sums = sums_of(type);
  auto out = [&](int64_t bit) { return outputs & bit ? torch::stable::empty_like(x) : empty(x, {0}, type); };
  Tensor y = out(1), l = out(2), s = out(4), r = out(8);
  Tensor totals = outputs & 16 ? empty(x, {k.size.n, k.size.c, 5}, sums) : empty(x, {0}, sums);
  auto view = [&](const Tensor& z, int64_t bit) {
    return outputs & bit ? view_of(z, k.size, type, "output") : lsef_view{};
  };
  k.y = view(y, 1);
  k.l = view(l, 2);
  k.s = view(s, 4);
  k.r = view(r, 8);
  k.sums = outputs & 16 ? totals.mutable_data_ptr() : nullptr;
  LSEF_RUN(low_rank_sparse, x, k, false);
  return {y, l, s, r, totals};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> low_rank_sparse_backward(
    const Maybe& to_y, const Maybe& to_l, const Maybe& to_s, const Maybe& to_r, const Maybe& to_sums, const Tensor& x,
    const Tensor& matrix, const Tensor& tau, const Maybe& keep, const Maybe& a, const Maybe& b, double exponent,
    double revival) {
  lsef_low_rank_sparse k = describe(x, matrix, tau, keep, a, b, exponent);
  const ScalarType type = x.scalar_type(), sums = sums_of(type);
  const lsef_size z = k.size;
  k.revival = revival;
  k.y = view_of(x, to_y, z, type, "the gradient of y");
  k.l = view_of(x, to_l, z, type, "the gradient of stable");
  k.s = view_of(x, to_s, z, type, "the gradient of transient");
  k.r = view_of(x, to_r, z, type, "the gradient of residual");
  k.sums = const_cast<void*>(plain(x, to_sums, {z.n, z.c, 5}, sums, "the gradient of the sums"));
  Tensor to_x = torch::stable::empty_like(x), to_matrix = empty(x, {z.n, z.t, z.t}, sums),
         to_tau = empty(x, {z.n, z.c}, sums), to_keep = empty(x, {z.n, z.t}, sums),
         to_a = empty(x, {z.n, z.c}, sums), to_b = empty(x, {z.n, z.c}, sums);
  k.to_x = view_of(to_x, z, type, "output");
  k.to_matrix = to_matrix.mutable_data_ptr();
  k.to_tau = to_tau.mutable_data_ptr();
  k.to_keep = to_keep.mutable_data_ptr();
  k.to_a = to_a.mutable_data_ptr();
  k.to_b = to_b.mutable_data_ptr();
  LSEF_RUN(low_rank_sparse_backward, x, k, true);
  return {to_x, to_matrix, to_tau, to_keep, to_a, to_b};
}

Tensor gram(const Tensor& x, const Maybe& matrix, const Maybe& tau, const Maybe& keep, double exponent) {
  const lsef_size z = size_of(x);
  const ScalarType sums = sums_of(x.scalar_type());
  STD_TORCH_CHECK(matrix.has_value() == tau.has_value(), "lsef: the Gram of x - s needs both the operator and tau");
  lsef_gram k{};
  k.dtype = code_of(x.scalar_type());
  k.exponent = code_of(exponent);
  k.size = z;
  k.x = view_of(x, z, x.scalar_type(), "x");
  k.matrix = plain(x, matrix, {z.n, z.t, z.t}, sums, "operator");
  k.tau = plain(x, tau, {z.n, z.c}, sums, "tau");
  k.keep = plain(x, keep, {z.n, z.t}, sums, "keep");
  Tensor g = empty(x, {z.n, z.t, z.t}, sums);
  k.gram = g.mutable_data_ptr();
  LSEF_RUN(gram, x, k, true);
  return g;
}

Tensor residual_scale(const Tensor& x, const Maybe& matrix, const Maybe& residual, int64_t sample, double to_sigma,
                      double floor_ratio) {
  const lsef_size z = size_of(x);
  const ScalarType sums = sums_of(x.scalar_type());
  STD_TORCH_CHECK(sample >= 1 && sample <= LSEF_MAX_SAMPLE, "lsef: sample must be 1 to 4096 values, got ", sample);
  STD_TORCH_CHECK(matrix.has_value() != residual.has_value(), "lsef: residual_scale takes an operator or a residual, "
                  "one of them");
  lsef_residual_scale k{};
  k.dtype = code_of(x.scalar_type());
  k.size = z;
  k.x = view_of(x, z, x.scalar_type(), "x");
  k.r = view_of(x, residual, z, x.scalar_type(), "residual");
  k.matrix = plain(x, matrix, {z.n, z.t, z.t}, sums, "operator");
  k.sample = sample;
  k.to_sigma = to_sigma;
  k.floor_ratio = floor_ratio;
  Tensor scale = empty(x, {z.n, z.c}, sums);
  k.scale = scale.mutable_data_ptr();
  LSEF_RUN(residual_scale, x, k, false);
  return scale;
}

// Jobs with windows: scale_shrink and frame_shrink.
template <class Job> void set_windows(Job& k, const std::vector<int64_t>& windows) {
  STD_TORCH_CHECK(!windows.empty() && windows.size() <= LSEF_MAX_WINDOWS, "lsef: 1 to 8 windows, got ", windows.size());
  k.windows = int(windows.size());
  for (size_t w = 0; w < windows.size(); ++w) {
    STD_TORCH_CHECK(windows[w] >= 1 && windows[w] % 2 == 1, "lsef: windows are odd, got ", windows[w]);
    k.half[w] = int(windows[w] / 2 < k.size.t ? windows[w] / 2 : k.size.t);
  }
}

lsef_scale_shrink describe(const Tensor& r, const Tensor& tau, const Maybe& limit, const std::vector<int64_t>& windows,
                           double exponent) {
  const lsef_size z = size_of(r);
  const ScalarType sums = sums_of(r.scalar_type());
  lsef_scale_shrink k{};
  k.dtype = code_of(r.scalar_type());
  k.exponent = code_of(exponent);
  k.size = z;
  set_windows(k, windows);
  k.r = view_of(r, z, r.scalar_type(), "r");
  k.tau = plain(r, tau, {z.n, z.c}, sums, "tau");
  k.limit = plain(r, limit, {z.n, z.c}, sums, "limit");
  return k;
}
// Window w of maps (w, n, c, t, p).
lsef_view slice(const Tensor& maps, int64_t w, const char* name) {
  STD_TORCH_CHECK(maps.dim() == 5, "lsef: ", name, " must be (windows, n, c, t, p)");
  const int64_t bytes = code_of(maps.scalar_type()) == LSEF_F64 ? 8 : code_of(maps.scalar_type()) == LSEF_F32 ? 4 : 2;
  return {static_cast<char*>(maps.data_ptr()) + w * maps.stride(0) * bytes, maps.stride(1), maps.stride(2),
          maps.stride(3), maps.stride(4)};
}

template <class Job> std::tuple<Tensor, Tensor> empty_maps(const Tensor& r, Job& k, bool with_magnitude) {
  const int64_t count = k.windows;
  Tensor s = empty(r, {count, k.size.n, k.size.c, k.size.t, k.size.p}, r.scalar_type());
  Tensor m = with_magnitude ? empty(r, {count, k.size.n, k.size.c, k.size.t, k.size.p}, r.scalar_type())
                            : empty(r, {0}, r.scalar_type());
  for (int64_t w = 0; w < count; ++w) {
    k.s[w] = slice(s, w, "output");
    if (with_magnitude) k.m[w] = slice(m, w, "output");
  }
  return {s, m};
}
template <class Job> void set_gradients(const Tensor& r, const Maybe& to_s, const Maybe& to_m, Job& k) {
  for (const Maybe* g : {&to_s, &to_m})
    STD_TORCH_CHECK(!g->has_value() || ((*g)->dim() == 5 && (*g)->size(0) == k.windows &&
                        (*g)->size(1) == k.size.n && (*g)->size(2) == k.size.c && (*g)->size(3) == k.size.t &&
                        (*g)->size(4) == k.size.p && (*g)->scalar_type() == r.scalar_type()),
                    "lsef: gradients of the maps must be (windows, n, c, t, p) in the dtype of r");
  for (int w = 0; w < k.windows; ++w) {
    if (to_s) k.s[w] = slice(*to_s, w, "gradient");
    if (to_m) k.m[w] = slice(*to_m, w, "gradient");
  }
}

std::tuple<Tensor, Tensor> scale_shrink(const Tensor& r, const Tensor& tau, const Maybe& limit,
                                        std::vector<int64_t> windows, double exponent, double,
                                        bool with_magnitude) {
  lsef_scale_shrink k = describe(r, tau, limit, windows, exponent);
  auto [s, m] = empty_maps(r, k, with_magnitude);
  LSEF_RUN(scale_shrink, r, k, false);
  return {s, m};
}

std::tuple<Tensor, Tensor> scale_shrink_backward(const Maybe& to_s, const Maybe& to_m, const Tensor& r,
                                                 const Tensor& tau, const Maybe& limit, std::vector<int64_t> windows,
                                                 double exponent, double revival) {
  lsef_scale_shrink k = describe(r, tau, limit, windows, exponent);
  k.revival = revival;
  set_gradients(r, to_s, to_m, k);
  Tensor to_r = torch::stable::empty_like(r), to_tau = empty(r, {k.size.n, k.size.c}, sums_of(r.scalar_type()));
  k.to_r = view_of(to_r, k.size, r.scalar_type(), "output");
  k.to_tau = to_tau.mutable_data_ptr();
  LSEF_RUN(scale_shrink_backward, r, k, false);
  return {to_r, to_tau};
}

lsef_frame_shrink describe(const Tensor& r, const std::vector<int64_t>& windows) {
  lsef_frame_shrink k{};
  k.dtype = code_of(r.scalar_type());
  k.exponent = LSEF_SOFT;
  k.size = size_of(r);
  set_windows(k, windows);
  k.r = view_of(r, k.size, r.scalar_type(), "r");
  return k;
}
lsef_frame_shrink describe(const Tensor& r, const Tensor& tau, const Maybe& limit, double exponent,
                           const std::vector<int64_t>& windows) {
  lsef_frame_shrink k = describe(r, windows);
  const ScalarType sums = sums_of(r.scalar_type());
  k.exponent = code_of(exponent);
  k.tau = plain(r, tau, {k.size.n, k.size.t}, sums, "tau");
  k.limit = plain(r, limit, {k.size.n, k.size.c}, sums, "limit");
  return k;
}

Tensor frame_norms(const Tensor& r, std::vector<int64_t> windows) {
  lsef_frame_shrink k = describe(r, windows);
  Tensor norms = empty(r, {k.size.n, k.windows, k.size.t}, sums_of(r.scalar_type()));
  k.norms = norms.mutable_data_ptr();
  LSEF_RUN_WITH(LSEF_FRAME_BYTES(k), frame_norms, r, k);
  return norms;
}

// Norms that are given are not looked for, and come back empty.
std::tuple<Tensor, Tensor, Tensor> frame_shrink(const Tensor& r, const Maybe& norms, const Tensor& tau,
                                                const Maybe& limit, std::vector<int64_t> windows, double exponent,
                                                double, bool with_magnitude) {
  lsef_frame_shrink k = describe(r, tau, limit, exponent, windows);
  const ScalarType sums = sums_of(r.scalar_type());
  k.known = norms.has_value();
  Tensor found = norms ? empty(r, {0}, sums) : empty(r, {k.size.n, k.windows, k.size.t}, sums);
  k.norms = norms ? const_cast<void*>(plain(r, norms, {k.size.n, k.windows, k.size.t}, sums, "norms"))
                  : found.mutable_data_ptr();
  auto [s, m] = empty_maps(r, k, with_magnitude);
  LSEF_RUN_WITH(LSEF_FRAME_BYTES(k), frame_shrink, r, k);
  return {s, m, found};
}

std::tuple<Tensor, Tensor> frame_shrink_backward(const Maybe& to_s, const Maybe& to_m, const Tensor& r,
                                                 const Tensor& norms, const Tensor& tau, const Maybe& limit,
                                                 std::vector<int64_t> windows, double exponent, double revival) {
  lsef_frame_shrink k = describe(r, tau, limit, exponent, windows);
  const ScalarType sums = sums_of(r.scalar_type());
  k.revival = revival;
  k.known = 1;
  k.norms = const_cast<void*>(plain(r, norms, {k.size.n, k.windows, k.size.t}, sums, "norms"));
  set_gradients(r, to_s, to_m, k);
  Tensor to_r = torch::stable::empty_like(r), to_tau = empty(r, {k.size.n, k.size.t}, sums);
  k.to_r = view_of(to_r, k.size, r.scalar_type(), "output");
  k.to_tau = to_tau.mutable_data_ptr();
  LSEF_RUN_WITH(LSEF_FRAME_BYTES(k), frame_shrink_backward, r, k);
  return {to_r, to_tau};
}

std::tuple<Tensor, Tensor> symmetric_eigh(const Tensor& a) {
  const ScalarType type = a.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double,
                  "lsef: symmetric_eigh takes float32 and float64 matrices");
  STD_TORCH_CHECK(a.dim() == 3 && a.size(1) == a.size(2), "lsef: symmetric_eigh takes square matrices (n, t, t)");
  lsef_eigh k{};
  k.dtype = code_of(type);
  k.n = a.size(0);
  k.t = a.size(1);
  k.matrix = plain(a, a, {k.n, k.t, k.t}, type, "matrices");
  Tensor values = empty(a, {k.n, k.t}, type), vectors = empty(a, {k.n, k.t, k.t}, type);
  k.values = values.mutable_data_ptr();
  k.vectors = vectors.mutable_data_ptr();
  LSEF_RUN_WITH(0, eigh, a, k);
  return {values, vectors};
}

// Batches of small matrices (n, t, t) of float32 or float64.
ScalarType check_squares(const Tensor& g) {
  STD_TORCH_CHECK(g.scalar_type() == ScalarType::Float || g.scalar_type() == ScalarType::Double,
                  "lsef: Gram matrices are float32 or float64");
  STD_TORCH_CHECK(g.dim() == 3 && g.size(1) == g.size(2), "lsef: Gram matrices are square, (n, t, t)");
  return g.scalar_type();
}

std::tuple<Tensor, Tensor> frame_repair(const Tensor& g, const Maybe& predictor, bool local, double kappa,
                                        double bandwidth, double floor_ratio) {
  const ScalarType type = check_squares(g);
  lsef_frame_repair k{};
  k.dtype = code_of(type);
  k.local = local;
  k.n = g.size(0);
  k.t = g.size(1);
  k.kappa = kappa;
  k.bandwidth = bandwidth;
  k.floor_ratio = floor_ratio;
  k.gram = plain(g, g, {k.n, k.t, k.t}, type, "the Gram matrix");
  k.predictor = plain(g, predictor, {k.n, k.t, k.t}, type, "predictor");
  Tensor outlying = empty(g, {k.n, k.t}, type), repair = empty(g, {k.n, k.t, k.t}, type);
  k.outlying = outlying.mutable_data_ptr();
  k.repair = repair.mutable_data_ptr();
  LSEF_RUN_WITH(0, frame_repair, g, k);
  return {outlying, repair};
}

Tensor isolation(const Tensor& matrix, const Tensor& g) {
  const ScalarType type = check_squares(g);
  lsef_isolation k{};
  k.dtype = code_of(type);
  k.n = g.size(0);
  k.t = g.size(1);
  k.gram = plain(g, g, {k.n, k.t, k.t}, type, "the Gram matrix");
  k.matrix = plain(g, matrix, {k.n, k.t, k.t}, type, "operator");
  Tensor found = empty(g, {k.n, k.t}, type);
  k.isolation = found.mutable_data_ptr();
  LSEF_RUN_WITH(0, isolation, g, k);
  return found;
}

}  // namespace

STABLE_TORCH_LIBRARY(lsef, m) {
  m.def("low_rank_sparse(Tensor x, Tensor operator, Tensor tau, Tensor? keep, Tensor? a, Tensor? b, float exponent, "
        "float revival, int outputs) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def("low_rank_sparse_backward(Tensor? to_y, Tensor? to_l, Tensor? to_s, Tensor? to_r, Tensor? to_sums, Tensor x, "
        "Tensor operator, Tensor tau, Tensor? keep, Tensor? a, Tensor? b, float exponent, float revival) -> "
        "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def("gram(Tensor x, Tensor? operator, Tensor? tau, Tensor? keep, float exponent) -> Tensor");
  m.def("residual_scale(Tensor x, Tensor? operator, Tensor? residual, int sample, float to_sigma, "
        "float floor_ratio) -> Tensor");
  m.def("scale_shrink(Tensor r, Tensor tau, Tensor? limit, int[] windows, float exponent, float revival, "
        "bool with_magnitude) -> (Tensor, Tensor)");
  m.def("scale_shrink_backward(Tensor? to_s, Tensor? to_m, Tensor r, Tensor tau, Tensor? limit, int[] windows, "
        "float exponent, float revival) -> (Tensor, Tensor)");
  m.def("frame_norms(Tensor r, int[] windows) -> Tensor");
  m.def("frame_shrink(Tensor r, Tensor? norms, Tensor tau, Tensor? limit, int[] windows, float exponent, float revival, "
        "bool with_magnitude) -> (Tensor, Tensor, Tensor)");
  m.def("frame_shrink_backward(Tensor? to_s, Tensor? to_m, Tensor r, Tensor norms, Tensor tau, Tensor? limit, "
        "int[] windows, float exponent, float revival) -> (Tensor, Tensor)");
  m.def("frame_repair(Tensor g, Tensor? predictor, bool local, float kappa, float bandwidth, float floor_ratio) -> "
        "(Tensor, Tensor)");
  m.def("isolation(Tensor operator, Tensor g) -> Tensor");
  m.def("symmetric_eigh(Tensor a) -> (Tensor, Tensor)");
}
#define LSEF_IMPLEMENT(device)                                                        \
  STABLE_TORCH_LIBRARY_IMPL(lsef, device, m) {                                        \
    m.impl("low_rank_sparse", TORCH_BOX(&low_rank_sparse));                           \
    m.impl("low_rank_sparse_backward", TORCH_BOX(&low_rank_sparse_backward));         \
    m.impl("gram", TORCH_BOX(&gram));                                                 \
    m.impl("residual_scale", TORCH_BOX(&residual_scale));                             \
    m.impl("scale_shrink", TORCH_BOX(&scale_shrink));                                 \
    m.impl("scale_shrink_backward", TORCH_BOX(&scale_shrink_backward));               \
    m.impl("frame_norms", TORCH_BOX(&frame_norms));                                   \
    m.impl("frame_shrink", TORCH_BOX(&frame_shrink));                                 \
    m.impl("frame_shrink_backward", TORCH_BOX(&frame_shrink_backward));               \
    m.impl("frame_repair", TORCH_BOX(&frame_repair));                                 \
    m.impl("isolation", TORCH_BOX(&isolation));                                       \
    m.impl("symmetric_eigh", TORCH_BOX(&symmetric_eigh));                             \
  }
LSEF_IMPLEMENT(CPU)
#ifdef LSEF_WITH_CUDA
LSEF_IMPLEMENT(CUDA)
#endif

#define LSEF_VISIBLE extern "C" __attribute__((visibility("default")))
// Found in the file before it is loaded.
LSEF_VISIBLE const char lsef_sources[] = "lsef sources " LSEF_SOURCE_HASH " ";
#ifdef LSEF_WITH_CUDA
LSEF_VISIBLE const char* lsef_devices() { return "cpu cuda"; }
#else
LSEF_VISIBLE const char* lsef_devices() { return "cpu"; }
#endif
LSEF_VISIBLE const char* lsef_instruction_set() { return lsef_cpu_instruction_set(); }
