/* What the kernels ask for and give, without a word of torch: plain structs, C linkage, the same for CPU and CUDA.
 *
 * Axes: n clips, c channels, t frames, p positions. A View is a tensor (n, c, t, p) with any strides (in elements);
 * data == NULL: not asked for, or not there. Everything else is contiguous and has the accumulation type, double for
 * double features and float for all others: matrices (n, t, t), gates (n, c), keep (n, t).
 */
#pragma once
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

enum { LSEF_F32 = 0, LSEF_F64 = 1, LSEF_BF16 = 2, LSEF_F16 = 3 };
enum { LSEF_DONE = 0, LSEF_TOO_MANY_FRAMES = -1, LSEF_NO_MEMORY = -2 };
enum { LSEF_CPU_MAX_FRAMES = 64, LSEF_CUDA_MAX_FRAMES = 32, LSEF_MAX_WINDOWS = 8, LSEF_MAX_SAMPLE = 4096 };
enum { LSEF_CPU_EIGH_ROWS = 16, LSEF_CUDA_EIGH_ROWS = 32 };   /* on the CPU LAPACK is as fast beyond them */
enum { LSEF_REPAIR_MAX_FRAMES = 32 };
enum { LSEF_SOFT = 1, LSEF_GARROTE = 2, LSEF_HARD = 0 };      /* exponent of the shrinkage; hard is infinity */

typedef struct { int64_t n, c, t, p; } lsef_size;
typedef struct { void* data; int64_t n, c, t, p; } lsef_view;

typedef struct {
  int dtype, exponent;
  lsef_size size;
  double revival;
  lsef_view x;
  const void *matrix, *tau, *keep, *a, *b;    /* keep NULL: 1; a, b NULL: 0 */
  lsef_view y, l, s, r;                       /* forward: out; backward: their gradients */
  void* sums;                                 /* (n, c, 5): forward: out; backward: its gradient; may be NULL */
  lsef_view to_x;                             /* backward only, like the rest below */
  void *to_matrix, *to_tau, *to_keep, *to_a, *to_b;
} lsef_low_rank_sparse;

typedef struct {
  int dtype, exponent;
  lsef_size size;
  lsef_view x;
  const void *matrix, *tau, *keep;            /* matrix NULL: the Gram of x, else of x - s */
  void* gram;                                 /* (n, t, t) */
} lsef_gram;

typedef struct {
  int dtype;
  lsef_size size;
  lsef_view x, r;                             /* r: the residual, without data where the matrix is given */
  const void* matrix;                         /* NULL: the residual is r, else x - matrix x */
  int64_t sample;                             /* the median is of about so many values, <= LSEF_MAX_SAMPLE */
  double to_sigma, floor_ratio;
  void* scale;                                /* (n, c) */
} lsef_residual_scale;

typedef struct {
  int dtype, exponent, windows;
  lsef_size size;
  double revival;
  int half[LSEF_MAX_WINDOWS];                 /* a window is 2 half + 1 frames, shorter at the clip's ends */
  lsef_view r;
  const void *tau, *limit;                    /* limit NULL: none */
  lsef_view s[LSEF_MAX_WINDOWS], m[LSEF_MAX_WINDOWS];  /* s and |s|, per window; backward: their gradients */
  lsef_view to_r;
  void* to_tau;
} lsef_scale_shrink;

typedef struct {
  int dtype, exponent, windows;
  lsef_size size;
  double revival;
  int half[LSEF_MAX_WINDOWS];
  lsef_view r;
  const void *tau, *limit;                    /* (n, t), (n, c); limit NULL: none */
  int known;                                  /* frame_shrink: norms are given; else it finds and writes them */
  void* norms;                                /* (n, windows, t), of the averaged frames */
  lsef_view s[LSEF_MAX_WINDOWS], m[LSEF_MAX_WINDOWS];  /* s and |s|, per window; backward: their gradients */
  lsef_view to_r;
  void* to_tau;                               /* (n, t) */
} lsef_frame_shrink;

typedef struct {
  int dtype;                                  /* LSEF_F32 or LSEF_F64 */
  int64_t n, t;
  const void* matrix;                         /* (n, t, t), of which the lower triangle is read */
  void *values, *vectors;                     /* (n, t) ascending, (n, t, t): the columns are the vectors */
} lsef_eigh;

typedef struct {
  int dtype, local;                           /* LSEF_F32 or LSEF_F64; predicted by neighbours in time or by all alike */
  int64_t n, t;
  double kappa, bandwidth, floor_ratio;
  const void *gram, *predictor;               /* (n, t, t); predictor NULL: found from the Gram */
  void *outlying, *repair;                    /* (n, t), (n, t, t) */
} lsef_frame_repair;

typedef struct {
  int dtype;
  int64_t n, t;
  const void *gram, *matrix;                  /* (n, t, t) */
  void* isolation;                            /* (n, t) */
} lsef_isolation;

/* The CPU's threads are the caller's: run(begin, end, context) over [0, count) in pieces of at least `grain`. */
typedef void (*lsef_range)(int64_t begin, int64_t end, void* context);
typedef void (*lsef_parallel)(int64_t count, int64_t grain, lsef_range run, void* context);

int lsef_cpu_low_rank_sparse(const lsef_low_rank_sparse* job, lsef_parallel parallel);
int lsef_cpu_low_rank_sparse_backward(const lsef_low_rank_sparse* job, lsef_parallel parallel);
int lsef_cpu_gram(const lsef_gram* job, lsef_parallel parallel);
int lsef_cpu_residual_scale(const lsef_residual_scale* job, lsef_parallel parallel);
int lsef_cpu_scale_shrink(const lsef_scale_shrink* job, lsef_parallel parallel);
int lsef_cpu_scale_shrink_backward(const lsef_scale_shrink* job, lsef_parallel parallel);
int lsef_cpu_frame_norms(const lsef_frame_shrink* job, lsef_parallel parallel);
int lsef_cpu_frame_shrink(const lsef_frame_shrink* job, lsef_parallel parallel);
int lsef_cpu_frame_shrink_backward(const lsef_frame_shrink* job, lsef_parallel parallel);
int lsef_cpu_eigh(const lsef_eigh* job, lsef_parallel parallel);
int lsef_cpu_frame_repair(const lsef_frame_repair* job, lsef_parallel parallel);
int lsef_cpu_isolation(const lsef_isolation* job, lsef_parallel parallel);
const char* lsef_cpu_instruction_set(void);

/* `parts` is device memory of lsef_cuda_part_bytes for those that sum over channels. Returns LSEF_DONE, one of the codes
 * above, or a cudaError_t. */
int64_t lsef_cuda_part_bytes(const lsef_size* size);
int lsef_cuda_low_rank_sparse(const lsef_low_rank_sparse* job, void* parts, void* stream);
int lsef_cuda_low_rank_sparse_backward(const lsef_low_rank_sparse* job, void* parts, void* stream);
int lsef_cuda_gram(const lsef_gram* job, void* parts, void* stream);
int lsef_cuda_residual_scale(const lsef_residual_scale* job, void* parts, void* stream);
int lsef_cuda_scale_shrink(const lsef_scale_shrink* job, void* parts, void* stream);
int lsef_cuda_scale_shrink_backward(const lsef_scale_shrink* job, void* parts, void* stream);
/* `parts` of lsef_cuda_frame_part_bytes. */
int64_t lsef_cuda_frame_part_bytes(const lsef_size* size, int windows);
int lsef_cuda_frame_norms(const lsef_frame_shrink* job, void* parts, void* stream);
int lsef_cuda_frame_shrink(const lsef_frame_shrink* job, void* parts, void* stream);
int lsef_cuda_frame_shrink_backward(const lsef_frame_shrink* job, void* parts, void* stream);
int lsef_cuda_eigh(const lsef_eigh* job, void* parts, void* stream);   /* parts: none */
int lsef_cuda_frame_repair(const lsef_frame_repair* job, void* parts, void* stream);   /* parts: none */
int lsef_cuda_isolation(const lsef_isolation* job, void* parts, void* stream);         /* parts: none */
const char* lsef_cuda_error(int code);

#ifdef __cplusplus
}
#endif
