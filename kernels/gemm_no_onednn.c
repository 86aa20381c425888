/* kernels/gemm_no_onednn.c -- stands in for gemm_onednn.c where the library was not found; nothing calls it, because dc_gemm_has
 * says so. */
#include "kernels/dev_cpu.h"

int dc_onednn_open(dc_onednn **out, unsigned features, dc_error *err)
{
    (void)out, (void)features;
    return dc_fail(err, DC_EUNKNOWN, "this build has no oneDNN");
}

void dc_onednn_close(dc_onednn *o) { (void)o; }

int dc_onednn_gemm(dc_onednn *o, const dc_gemm *g, dc_error *err)
{
    (void)o, (void)g;
    return dc_fail(err, DC_EUNKNOWN, "this build has no oneDNN");
}

size_t dc_onednn_scratch_bytes(const dc_onednn *o)
{
    (void)o;
    return 0;
}

const char *dc_onednn_describe(void) { return "none"; }
