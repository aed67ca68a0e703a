// The arithmetic of the operators, once: for a CUDA thread (V = float or double) and for the lanes of a CPU vector
// (V = GCC vector type). No comparison here treats NaN as small: what is broken stays visible.
#pragma once
#include <cmath>
#include <cstdint>
#if defined(__CUDACC__)
#define LSEF_HD __host__ __device__ __forceinline__
#define LSEF_UNROLL _Pragma("unroll")
#define LSEF_PRAGMA(text) _Pragma(#text)
#define LSEF_UNROLL_BY(count) LSEF_PRAGMA(unroll count)
#else
#define LSEF_HD inline __attribute__((always_inline))
#define LSEF_UNROLL _Pragma("GCC unroll 16")
#define LSEF_UNROLL_BY(count)
#endif

namespace lsef {

// Sums written per (n, c): elements of s that are not zero, l1 and energy of s, energy of l, energy of r.
constexpr int kStatistics = 5;

template <class V> LSEF_HD V magnitude(V v) { return v < V{} ? -v : v; }
template <class V> LSEF_HD V sign(V v, V one) { return v > V{} ? one : (v < V{} ? -one : V{}); }
// v within [-limit, limit]
template <class V> LSEF_HD V clipped(V v, V limit) { return v > limit ? limit : (v < -limit ? -limit : v); }

LSEF_HD float exponential(float v) { return expf(v); }
LSEF_HD double exponential(double v) { return exp(v); }

// a / b for b >= 0
template <class V> LSEF_HD V ratio(V a, V b) { return a / b; }

// 1 / (1 + exp(-v))
template <class V> LSEF_HD V sigmoid(V v, V one) {
  const V bound = one * 80;
  return one / (one + exponential(-clipped(v, bound)));
}

#ifdef __CUDA_ARCH__
// The same for a GPU's float, where one instruction does what takes the above two to eight. ratio: 2 units in the last
// place, a divisor too small for the short instruction (of the size of the least normal number) is taken as that number,
// and NaN stays NaN. sigmoid: exp(-v) = inf needs no bound.
__device__ __forceinline__ float magnitude(float v) { return fabsf(v); }
__device__ __forceinline__ float ratio(float a, float b) {
  float divisor, inverse;
  asm("max.NaN.f32 %0, %1, 0f00800000;" : "=f"(divisor) : "f"(b));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(divisor));
  return a * inverse;
}
__device__ __forceinline__ float sign(float v, float one) { return v == 0.f ? 0.f : copysignf(one, v); }
__device__ __forceinline__ float sigmoid(float v, float one) {
  float power, inverse;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(v * -1.44269504088896341f));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(one + power));
  return inverse;
}
#endif

// residual_scale: whether the residual r of the feature x has a say in the median. Where x is zero there is nothing to
// tell noise by; a broken r is heard everywhere.
template <class A> LSEF_HD bool counts(A x, A r) { return x != A(0) || r != r; }

// shrink_p(r, tau) = r (1 - q^p) where q = tau / |r| < 1, else 0. With q^p = q (first + second q) one expression
// serves p = 1 (first = 1), p = 2 (second = 1) and p = inf (neither).
template <class V> struct Exponent { V first, second; };

template <class V> LSEF_HD V shrunken(V r, V tau, const Exponent<V>& p, V one) {
  const V m = magnitude(r), q = ratio(tau, m);
  return m <= tau ? V{} : r * (one - q * (p.first + p.second * q));
}

// The derivatives of shrink_p. That with respect to tau counts an element with the weight
// sigmoid((|r| - tau) / width), or, with revival off (width = 0), with 1 above the threshold and 0 below.
template <class V> struct Slopes { V r, tau; };

template <class V>
LSEF_HD Slopes<V> slopes(V r, V tau, const Exponent<V>& p, bool revive, V inverse_width, V one) {
  const V m = magnitude(r);
  const V q = m <= tau ? one : ratio(tau, m);
  V weight = m <= tau ? V{} : one;
  if (revive) weight = sigmoid((m - tau) * inverse_width, one);
  return {m <= tau ? V{} : one + p.second * q * q, -sign(r, one) * weight * (p.first + (one + one) * p.second * q)};
}

// ---- frame_shrink: a frame v of norm |v| becomes gain v with gain = shrink(|v|, tau) / |v| -----------------------

template <class A> LSEF_HD A frame_gain(A norm, A tau, const Exponent<A>& p) {
  const A kept = shrunken(norm, tau, p, A(1));
  return norm > A(0) ? kept / norm : kept;
}
// From dot = <v, gradient of gain v>: what the norm adds to the gradient of v, in units of v, and that of tau.
template <class A> struct FrameSlopes { A along, tau; };
template <class A>
LSEF_HD FrameSlopes<A> frame_slopes(A norm, A tau, A dot, const Exponent<A>& p, bool revive, A inverse_width) {
  const Slopes<A> slope = slopes(norm, tau, p, revive, inverse_width, A(1));
  if (norm == A(0)) return {A(0), dot * slope.tau};
  const A share = dot / norm;
  return {share * (slope.r - shrunken(norm, tau, p, A(1)) / norm) / norm, share * slope.tau};
}

// ---- low_rank_sparse: l = M x, r = k (x - l), s = k shrink(x - l, tau), y = x + a l + b s -------------------------

template <class V> struct Gates { V tau, inverse_width, a, b; bool with_a, with_b; };   // 0 inf is no number: skip it
template <class V> struct Parts { V y, s, r; };
template <class V> struct GateGradients { V tau, a, b; };

template <bool Sums, class V>
LSEF_HD Parts<V> take_apart(V x, V l, V keep, const Gates<V>& g, const Exponent<V>& p, V one, V (&sums)[kStatistics]) {
  const V r = x - l, s = keep * shrunken(r, g.tau, p, one), kept = keep * r;
  if (Sums) {
    sums[0] += s == V{} ? V{} : one;
    sums[1] += magnitude(s);
    sums[2] += s * s;
    sums[3] += l * l;
    sums[4] += kept * kept;
  }
  V y = x;
  if (g.with_a) y += g.a * l;
  if (g.with_b) y += g.b * s;
  return {y, s, kept};
}

// From the gradients of y, l, s, r and of the sums: x (without the part through l), l, keep, and the gates.
template <class V> struct PartGradients { V y, l, s, r; };
template <class V> struct InputGradients { V x, l, keep; };

// Of `up`, OnlyY: nothing but y.
template <bool Sums, bool OnlyY = false, class V>
LSEF_HD InputGradients<V> put_back(V x, V l, V keep, const PartGradients<V>& up, const V (&sums)[kStatistics],
                                   const Gates<V>& g, const Exponent<V>& p, bool revive, V one,
                                   GateGradients<V>& gates) {
  const V r = x - l, whole = shrunken(r, g.tau, p, one), s = keep * whole;
  const Slopes<V> slope = slopes(r, g.tau, p, revive, g.inverse_width, one);
  V to_s = g.b * up.y, to_kept = V{}, to_l = g.a * up.y;
  if (!OnlyY) {
    to_s += up.s;
    to_l += up.l;
    to_kept = up.r;
  }
  if (Sums) {
    to_s += sums[1] * sign(s, one) + (sums[2] + sums[2]) * s;
    to_l += (sums[3] + sums[3]) * l;
    to_kept += (sums[4] + sums[4]) * keep * r;
  }
  const V to_whole = keep * to_s;
  V to_r = to_whole * slope.r, to_keep = to_s * whole;
  if (Sums || !OnlyY) {
    to_r += keep * to_kept;
    to_keep += to_kept * r;
  }
  gates.tau += to_whole * slope.tau;
  gates.a += up.y * l;
  gates.b += up.y * s;
  return {up.y + to_r, to_l - to_r, to_keep};
}

}  // namespace lsef
