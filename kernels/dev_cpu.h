/* kernels/dev_cpu.h -- the state of a CPU device; private to kernels/. */
#ifndef DC_KERNELS_DEV_CPU_H
#define DC_KERNELS_DEV_CPU_H

#include "kernels/dev.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Floats of the scratch of matrix products: 16 MiB. The own kernels share it among threads. For a library stored weights
 * are unpacked into it: most matrices of a small model fit whole; unpacking in pieces makes it pack A once a piece. */
enum { DC_PANEL_FLOATS = 4 << 20 };

typedef struct dc_cpu_state {
    unsigned features;
    dc_gemm_backend backend;
    float *panel;    /* [DC_PANEL_FLOATS]; NULL for the plain C backend, which needs none */
    dc_error failed; /* the first failure of an op, until the next dc_dev_sync */
    char describe[160], path[160];
} dc_cpu_state;

/* The gemm of a CPU device that is not plain C: small shapes, own kernels or a library. Needs a dev. */
dc_gemm_fn dc_gemm_cpu;

#ifdef __cplusplus
}
#endif
#endif
