#include "cuda.cuh"
#include "cuda_eigh.cuh"
extern "C" const char* lsef_cuda_error(int code) { return cudaGetErrorString(cudaError_t(code)); }
