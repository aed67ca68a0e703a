// The frame-robust stage on the CPU: a T x T matrix is a handful of microseconds, its many PyTorch calls are not.
#include "kernels.h"
#include "lanes.h"      // before maths.h, whose templates call its functions
#include "repair.h"

namespace lsef {
namespace {

struct Alone {
  static constexpr int lanes = 1, lane = 0;
  void sync() const {}
  template <class A> A sum(A v) const { return v; }
  template <class A> A load(const A* p) const { return *p; }
  template <class A> void store(A* p, A v) const { *p = v; }
};

#define LSEF_SMALL(name, Job, A)                                                        \
  LSEF_CLONES void name##_##A(int64_t begin, int64_t end, void* context) {              \
    alignas(64) A memory[2 * 32 * 33 + 3 * 32];                                         \
    for (int64_t n = begin; n < end; ++n)                                               \
      name<A>(Alone(), *static_cast<const Job*>(context), n, memory);                   \
  }
LSEF_SMALL(repair_frames, lsef_frame_repair, float)
LSEF_SMALL(repair_frames, lsef_frame_repair, double)
LSEF_SMALL(find_isolation, lsef_isolation, float)
LSEF_SMALL(find_isolation, lsef_isolation, double)

template <class Job> int run_small(const Job* job, lsef_parallel parallel, lsef_range single, lsef_range wide) {
  if (job->t > LSEF_REPAIR_MAX_FRAMES) return LSEF_TOO_MANY_FRAMES;
  if (job->n && job->t) parallel(job->n, 16, job->dtype == LSEF_F64 ? wide : single, const_cast<Job*>(job));
  return LSEF_DONE;
}

}  // namespace
}  // namespace lsef

extern "C" {
int lsef_cpu_frame_repair(const lsef_frame_repair* job, lsef_parallel parallel) {
  return lsef::run_small(job, parallel, lsef::repair_frames_float, lsef::repair_frames_double);
}
int lsef_cpu_isolation(const lsef_isolation* job, lsef_parallel parallel) {
  return lsef::run_small(job, parallel, lsef::find_isolation_float, lsef::find_isolation_double);
}
}
