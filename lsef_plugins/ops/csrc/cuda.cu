#include "cuda.cuh"
#include "cuda_eigh.cuh"
#include "cuda_frame_shrink.cuh"
#include "cuda_repair.cuh"
extern "C" const char* lsef_cuda_error(int code) { return cudaGetErrorString(cudaError_t(code)); }
