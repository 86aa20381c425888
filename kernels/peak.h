/* kernels/peak.h -- what this machine could do at most, measured: the ceilings that bench and doctor stand figures beside. */
#ifndef DC_KERNELS_PEAK_H
#define DC_KERNELS_PEAK_H

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_peak {
    double flops; /* fp32 multiply-adds on registers alone, all threads, operations a second (a multiply-add is two) */
    const char *registers; /* what they were: "AVX-512", "AVX2", "plain C" */
    double read_bytes;     /* bytes a second read from memory by all threads; 0: not measured */
} dc_peak;

/* Takes about `seconds` for each of the two; `memory` 0 leaves the second out. The widest registers that DC_CPU allows. */
void dc_peak_measure(dc_peak *out, double seconds, int memory);

#ifdef __cplusplus
}
#endif
#endif
