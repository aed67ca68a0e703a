// Eigenvalues and vectors of small symmetric matrices on the CPU: cyclic Jacobi, a matrix in each lane of a vector. A
// LAPACK call costs more in overhead than a matrix of eight rows does in arithmetic. A lane that has converged, or holds
// NaN, turns by nothing until the others are done: no result depends on the matrices beside it.
#include <cstring>

#include "kernels.h"
#include "lanes.h"      // before maths.h, whose templates call its functions

namespace lsef {
namespace {
LSEF_INLINE Vector<double> root(Vector<double> v) {
  for (int i = 0; i < kLanes<double>; ++i) v[i] = std::sqrt(v[i]);
  return v;
}
LSEF_INLINE Vector<float> root(Vector<float> v) {
  for (int i = 0; i < kLanes<float>; ++i) v[i] = std::sqrt(v[i]);
  return v;
}
}  // namespace
}  // namespace lsef

#include "rotation.h"

namespace lsef {
namespace {

constexpr int kRows = LSEF_CPU_EIGH_ROWS;

template <class A> LSEF_INLINE bool any(const Vector<A>& v) {
  bool found = false;
  for (int i = 0; i < kLanes<A>; ++i) found |= v[i] != A(0);
  return found;
}

// The lower triangle of one matrix into a lane, scaled by the power of two that is returned; zeros if it is not finite.
template <class A> LSEF_INLINE int load_lane(const A* m, int T, int lane, Vector<A>* a, bool& finite) {
  A peak = 0, broken = 0;
  for (int i = 0; i < T; ++i)
    for (int j = 0; j <= i; ++j) {
      const A v = std::fabs(m[i * T + j]);
      peak = v > peak ? v : peak;
      broken += v * 0;
    }
  finite = broken == 0;
  int exponent = 0;
  if (finite) std::frexp(peak, &exponent);
  for (int i = 0; i < T; ++i)
    for (int j = 0; j <= i; ++j)
      a[i * T + j][lane] = a[j * T + i][lane] = finite ? std::ldexp(m[i * T + j], -exponent) : A(0);
  return exponent;
}

// Ascending; of equal values the first axis first.
template <class A> LSEF_INLINE void store_lane(const Vector<A>* a, const Vector<A>* v, int T, int lane, int exponent,
                                               bool finite, A* values, A* vectors) {
  for (int i = 0; i < T; ++i) {
    const A value = a[i * T + i][lane];
    int place = 0;
    for (int j = 0; j < T; ++j) {
      const A other = a[j * T + j][lane];
      place += other < value || (other == value && j < i);
    }
    values[place] = finite ? std::ldexp(value, exponent) : A(NAN);
    for (int r = 0; r < T; ++r) vectors[r * T + place] = finite ? v[i * T + r][lane] : A(NAN);
  }
}

template <class A> LSEF_INLINE bool sweep(Vector<A>* a, Vector<A>* v, int T) {
  const Vector<A> one = Vector<A>{} + A(1);
  bool moved = false;
  for (int p = 0; p < T; ++p)
    for (int q = p + 1; q < T; ++q) {
      Vector<A>&app = a[p * T + p], &aqq = a[q * T + q];
      const Vector<A> apq = coupling<A>(app, aqq, a[p * T + q], one);
      if (!any<A>(apq)) continue;
      moved = true;
      const Rotation<Vector<A>> r = rotation(app, aqq, apq, one);
      app -= r.tangent * apq;
      aqq += r.tangent * apq;
      // What does not matter beside its diagonal, the other lanes' too, stays as it is.
      a[p * T + q] = a[q * T + p] = apq == Vector<A>{} ? a[p * T + q] : Vector<A>{};
      for (int i = 0; i < T; ++i) {
        if (i != p && i != q) {
          turn(a[p * T + i], a[q * T + i], r);
          a[i * T + p] = a[p * T + i];
          a[i * T + q] = a[q * T + i];
        }
        turn(v[p * T + i], v[q * T + i], r);      // rows of v are the vectors
      }
    }
  return moved;
}

template <class A> LSEF_INLINE void eigh_lanes(const lsef_eigh& k, int64_t begin, int64_t end) {
  const int T = int(k.t);
  alignas(64) Vector<A> a[kRows * kRows], v[kRows * kRows];
  for (int64_t n = begin * kLanes<A>; n < end * kLanes<A> && n < k.n; n += kLanes<A>) {
    const int count = int(k.n - n < kLanes<A> ? k.n - n : kLanes<A>);
    int exponent[kLanes<A>];
    bool finite[kLanes<A>];
    memset(a, 0, sizeof(Vector<A>) * T * T);
    memset(v, 0, sizeof(Vector<A>) * T * T);
    for (int i = 0; i < T; ++i) v[i * T + i] += A(1);
    for (int l = 0; l < count; ++l)
      exponent[l] = load_lane(static_cast<const A*>(k.matrix) + (n + l) * T * T, T, l, a, finite[l]);
    for (int i = 0; i < kMaxSweeps && sweep<A>(a, v, T); ++i) {}
    for (int l = 0; l < count; ++l)
      store_lane(a, v, T, l, exponent[l], finite[l], static_cast<A*>(k.values) + (n + l) * T,
                 static_cast<A*>(k.vectors) + (n + l) * T * T);
  }
}
#define LSEF_EIGH(A)                                                                     \
  LSEF_CLONES void eigh_##A(int64_t begin, int64_t end, void* context) {                 \
    eigh_lanes<A>(*static_cast<const lsef_eigh*>(context), begin, end);                  \
  }
LSEF_EIGH(float)
LSEF_EIGH(double)

}  // namespace
}  // namespace lsef

extern "C" int lsef_cpu_eigh(const lsef_eigh* job, lsef_parallel parallel) {
  if (job->t > LSEF_CPU_EIGH_ROWS) return LSEF_TOO_MANY_FRAMES;
  const int64_t lanes = job->dtype == LSEF_F64 ? lsef::kLanes<double> : lsef::kLanes<float>;
  const int64_t groups = (job->n + lanes - 1) / lanes;
  if (groups && job->t) parallel(groups, 1, job->dtype == LSEF_F64 ? lsef::eigh_double : lsef::eigh_float, const_cast<lsef_eigh*>(job));
  return LSEF_DONE;
}
