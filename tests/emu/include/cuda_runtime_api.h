/* tests/emu/include/cuda_runtime_api.h -- the host interface, also for C. */
#ifndef DC_EMU_CUDA_RUNTIME_API_H
#define DC_EMU_CUDA_RUNTIME_API_H
#include "emu_runtime.h"
#endif
