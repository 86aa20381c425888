/* kernels/rng.cuh -- core/rng.h's generator for device code: the same bits. */
#ifndef DC_KERNELS_RNG_CUH
#define DC_KERNELS_RNG_CUH

#include "core/rng.h"
#include "kernels/cuda.cuh"

/* dc_rng_u32x4: Philox4x32-10 of the counter (a, b) under the key (seed, stream). */
DC_DEVICE void dc_philox(uint32_t out[4], uint64_t seed, uint32_t stream, uint64_t a, uint32_t b)
{
    uint32_t c0 = static_cast<uint32_t>(a), c1 = static_cast<uint32_t>(a >> 32), c2 = b, c3 = stream;
    uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const uint32_t high0 = __umulhi(0xD2511F53u, c0), high2 = __umulhi(0xCD9E8D57u, c2);
        const uint32_t low0 = 0xD2511F53u * c0, low2 = 0xCD9E8D57u * c2;
        c0 = high2 ^ c1 ^ k0, c1 = low2;
        c2 = high0 ^ c3 ^ k1, c3 = low0;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

/* dc_rng_f32: uniform in [0, 1). */
DC_DEVICE float dc_uniform(uint32_t u) { return static_cast<float>(u >> 8) * (1.0f / 16777216.0f); }

#endif
