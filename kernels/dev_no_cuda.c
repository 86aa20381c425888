/* kernels/dev_no_cuda.c -- what a program without CUDA links in place of dev_cuda.cu. */
#include "kernels/dev_kind.h"

#include <stddef.h>

const dc_dev_kind *dc_dev_kind_cuda(void) { return NULL; }
