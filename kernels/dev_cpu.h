/* kernels/dev_cpu.h -- the state of a CPU device; private to kernels/. */
#ifndef DC_KERNELS_DEV_CPU_H
#define DC_KERNELS_DEV_CPU_H

#include "kernels/dev.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_onednn dc_onednn; /* kernels/gemm_onednn.c */

/* Floats of the scratch into which stored weights are unpacked: 16 MiB. Most matrices of a small model fit whole; unpacking in pieces
 * makes the library pack A once a piece. */
enum { DC_PANEL_FLOATS = 4 << 20 };

typedef struct dc_cpu_state {
    unsigned features;
    dc_gemm_backend backend;
    float *panel; /* [DC_PANEL_FLOATS]; NULL for the plain C backend, which needs none */
    dc_onednn *onednn;
    dc_error failed; /* the first failure of an op, until the next dc_dev_sync */
    char describe[160], path[160];
} dc_cpu_state;

/* The gemm of a CPU device with a library: panels, small shapes, backend. Needs a dev. */
dc_gemm_fn dc_gemm_cpu;

/* The libraries, B in F32. dc_onednn_open masks the library's instruction sets by `features`, which works only before the
 * process's first product: the first device decides. dc_onednn_gemm returns a code and fills err. */
int dc_onednn_open(dc_onednn **out, unsigned features, dc_error *err);
void dc_onednn_close(dc_onednn *o); /* NULL is fine */
int dc_onednn_gemm(dc_onednn *o, const dc_gemm *g, dc_error *err);
size_t dc_onednn_scratch_bytes(const dc_onednn *o);
const char *dc_onednn_describe(void);
void dc_openblas_gemm(const dc_gemm *g);
const char *dc_openblas_describe(void);

/* Puts the bias into C (adds it when g accumulates), so that a product that accumulates can follow. */
void dc_gemm_prime_bias(const dc_gemm *g);

#ifdef __cplusplus
}
#endif
#endif
