/* tests/emu/include/cuda_runtime.h -- everything that a .cu file gets without asking when nvcc compiles it. */
#ifndef DC_EMU_CUDA_RUNTIME_H
#define DC_EMU_CUDA_RUNTIME_H
#include "emu_runtime.h"
#ifdef __cplusplus
#include "emu_device.h"
#include "emu_launch.h"
#endif
#endif
