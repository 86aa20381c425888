/* core/rng.h -- counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011).
 *
 * A draw is a pure function of (seed, stream, a, b): nothing is carried along, so dropout, sampling and shuffles replay
 * exactly after a resume and in any order of threads. Streams keep uses apart; a and b are the caller's counters (step and
 * element, document and draw, ...). */
#ifndef DC_CORE_RNG_H
#define DC_CORE_RNG_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum dc_rng_stream {
    DC_RNG_INIT = 1, /* weights */
    DC_RNG_LORA,     /* lora_A */
    DC_RNG_DROPOUT,
    DC_RNG_ORDER,  /* document order */
    DC_RNG_MIX,    /* mixing of sources */
    DC_RNG_TEACH,  /* draws of a sampled store */
    DC_RNG_SAMPLE, /* generation */
    DC_RNG_SPLIT,  /* held-out rows */
    DC_RNG_TEST
} dc_rng_stream;

/* Four 32-bit numbers for the counter (a, b) of the key (seed, stream). */
static inline void dc_rng_u32x4(uint32_t out[4], uint64_t seed, uint32_t stream, uint64_t a, uint32_t b)
{
    uint32_t c0 = (uint32_t)a, c1 = (uint32_t)(a >> 32), c2 = b, c3 = stream;
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        const uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1, c3 = (uint32_t)p0, c0 = n0, c2 = n2;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

/* Uniform in [0, 1): 24 bits for a float, 53 for a double. */
static inline float dc_rng_f32(uint32_t u) { return (float)(u >> 8) * (1.0f / 16777216.0f); }
static inline double dc_rng_f64(uint32_t hi, uint32_t lo)
{
    return (double)((((uint64_t)hi << 32) | lo) >> 11) * (1.0 / 9007199254740992.0);
}

/* Fills x[0..n) with uniform numbers in [low, high) or with normal ones (Box-Muller); element i depends on i alone. */
void dc_rng_uniform(float *x, int64_t n, float low, float high, uint64_t seed, uint32_t stream, uint32_t b);
void dc_rng_normal(float *x, int64_t n, float mean, float std, uint64_t seed, uint32_t stream, uint32_t b);

/* A keyed permutation of [0, n): the image of i, by a Feistel network with cycle walking; no memory. n < 2^62. */
uint64_t dc_permute(uint64_t i, uint64_t n, uint64_t seed, uint64_t epoch);

#ifdef __cplusplus
}
#endif
#endif
