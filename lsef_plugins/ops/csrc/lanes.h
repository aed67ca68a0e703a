// Vectors of the CPU kernels: 64 bytes of floats or doubles, whatever registers the CPU has for them.
#pragma once
#include <cmath>
#include <cstdint>
#define LSEF_INLINE inline __attribute__((always_inline))
// One source, compiled for three instruction sets: the running CPU chooses.
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && !defined(LSEF_ONE_INSTRUCTION_SET)
#define LSEF_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define LSEF_CLONES
#endif

namespace lsef {

template <class A> struct Lanes;
template <> struct Lanes<float> { typedef float type __attribute__((vector_size(64))); };
template <> struct Lanes<double> { typedef double type __attribute__((vector_size(64))); };
template <class A> using Vector = typename Lanes<A>::type;
template <class A> constexpr int kLanes = 64 / sizeof(A);

LSEF_INLINE Vector<double> exponential(Vector<double> v) {
  for (int i = 0; i < kLanes<double>; ++i) v[i] = std::exp(v[i]);
  return v;
}
// exp for |v| <= 88 to one unit in the last place: 2^n by the exponent bits, the rest by Cephes' polynomial.
LSEF_INLINE Vector<float> exponential(Vector<float> v) {
  typedef int32_t Bits __attribute__((vector_size(64)));
  const Vector<float> shift = Vector<float>{} + 12582912.f;       // 1.5 * 2^23: rounds to an integer
  const Vector<float> n = (v * 1.44269504088896341f + shift) - shift;
  const Vector<float> z = (v - n * 0.693359375f) + n * 2.12194440e-4f;
  Vector<float> e = z * 1.9875691500e-4f + 1.3981999507e-3f;
  e = e * z + 8.3334519073e-3f;
  e = e * z + 4.1665795894e-2f;
  e = e * z + 1.6666665459e-1f;
  e = e * z + 5.0000001201e-1f;
  e = e * (z * z) + z + 1.f;
  const Bits power = (__builtin_convertvector(n, Bits) + 127) << 23;
  return e * (Vector<float>)power;
}

}  // namespace lsef
