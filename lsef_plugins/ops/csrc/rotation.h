// One Jacobi rotation of a symmetric matrix, for a CUDA thread (V = float or double) and for the lanes of a CPU vector.
// With the tangent t of the angle that makes a_pq zero: a_pp -= t a_pq, a_qq += t a_pq, and every other pair (x, y) in
// rows p and q turns by sine and cosine, written as corrections (Rutishauser), so that small ones lose no digits.
#pragma once
#include "maths.h"

namespace lsef {

constexpr int kMaxSweeps = 30;      // ordinary matrices need 4 to 9; a bound for what never converges

LSEF_HD float root(float v) { return sqrtf(v); }
LSEF_HD double root(double v) { return sqrt(v); }

// A matrix is scaled to a largest magnitude between 1/2 and 1. What is below `least` has no square that is a number.
template <class A> struct Rounding;
template <> struct Rounding<double> { static constexpr double unit = 2.220446049250313e-16, least = 1e-150; };
template <> struct Rounding<float> { static constexpr float unit = 1.1920929e-7f, least = 1e-18f; };

// a_pq where it matters beside its diagonal elements, else zero. Graded matrices keep their small eigenvalues thereby.
template <class A, class V> LSEF_HD V coupling(V app, V aqq, V apq, V one) {
  const V unit = one * Rounding<A>::unit, bound = unit * unit * magnitude(app * aqq);
  return magnitude(apq) > one * Rounding<A>::least ? (apq * apq > bound ? apq : V{}) : V{};
}

template <class V> struct Rotation { V tangent, sine, half; };      // half: s / (1 + c), the tangent of half the angle

template <class V> LSEF_HD Rotation<V> rotation(V app, V aqq, V apq, V one) {
  const V twice = apq + apq, gap = aqq - app;
  const V length = magnitude(gap) + root(gap * gap + twice * twice);
  const V t = apq == V{} ? V{} : (gap < V{} ? -twice : twice) / length;
  const V c = one / root(one + t * t), s = t * c;
  return {t, s, s / (one + c)};
}
template <class V> LSEF_HD void turn(V& x, V& y, const Rotation<V>& r) {
  const V before = x;
  x = x - r.sine * (y + r.half * x);
  y = y + r.sine * (before - r.half * y);
}

}  // namespace lsef
