/* kernels/peak.c -- registers kept busy, and memory read, by all threads. */
#include "kernels/peak.h"

#include <stdint.h>

#include "core/arena.h"
#include "core/log.h"
#include "core/pool.h"
#include "kernels/cpu.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum {
    MAX_THREADS = 1024,
    SUMS = 16,
    ROUNDS = 1 << 14,
    READ_BYTES = 512 << 20,
    PIECE = 2 << 20,
    MAX_SHARES = READ_BYTES / PIECE
};

/* Enough independent sums to hide the latency of a multiply-add. They begin with different values, or the compiler would compute one for all;
 * their total keeps it from dropping them. */
typedef float work_fn(int64_t rounds, float a, float b);

static float work_plain(int64_t rounds, float a, float b)
{
    float s[SUMS], total = 0;
    for (int k = 0; k < SUMS; k++) s[k] = (float)k;
    for (int64_t i = 0; i < rounds; i++)
        for (int k = 0; k < SUMS; k++) s[k] = s[k] * a + b;
    for (int k = 0; k < SUMS; k++) total += s[k];
    return total;
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static float work_avx2(int64_t rounds, float a, float b)
{
    const __m256 x = _mm256_set1_ps(a), y = _mm256_set1_ps(b);
    __m256 s0 = y, s1 = s0 + y, s2 = s1 + y, s3 = s2 + y, s4 = s3 + y, s5 = s4 + y, s6 = s5 + y, s7 = s6 + y,
           s8 = s7 + y, s9 = s8 + y;
    __m256 s10 = s9 + y, s11 = s10 + y;
    for (int64_t i = 0; i < rounds; i++) {
        s0 = _mm256_fmadd_ps(s0, x, y), s1 = _mm256_fmadd_ps(s1, x, y), s2 = _mm256_fmadd_ps(s2, x, y),
        s3 = _mm256_fmadd_ps(s3, x, y);
        s4 = _mm256_fmadd_ps(s4, x, y), s5 = _mm256_fmadd_ps(s5, x, y), s6 = _mm256_fmadd_ps(s6, x, y),
        s7 = _mm256_fmadd_ps(s7, x, y);
        s8 = _mm256_fmadd_ps(s8, x, y), s9 = _mm256_fmadd_ps(s9, x, y), s10 = _mm256_fmadd_ps(s10, x, y),
        s11 = _mm256_fmadd_ps(s11, x, y);
    }
    const __m256 t = _mm256_add_ps(_mm256_add_ps(_mm256_add_ps(s0, s1), _mm256_add_ps(s2, s3)),
                                   _mm256_add_ps(_mm256_add_ps(_mm256_add_ps(s4, s5), _mm256_add_ps(s6, s7)),
                                                 _mm256_add_ps(_mm256_add_ps(s8, s9), _mm256_add_ps(s10, s11))));
    return _mm256_cvtss_f32(t);
}

__attribute__((target("avx512f"))) static float work_avx512(int64_t rounds, float a, float b)
{
    const __m512 x = _mm512_set1_ps(a), y = _mm512_set1_ps(b);
    __m512 s0 = y, s1 = s0 + y, s2 = s1 + y, s3 = s2 + y, s4 = s3 + y, s5 = s4 + y, s6 = s5 + y, s7 = s6 + y,
           s8 = s7 + y, s9 = s8 + y;
    __m512 s10 = s9 + y, s11 = s10 + y;
    for (int64_t i = 0; i < rounds; i++) {
        s0 = _mm512_fmadd_ps(s0, x, y), s1 = _mm512_fmadd_ps(s1, x, y), s2 = _mm512_fmadd_ps(s2, x, y),
        s3 = _mm512_fmadd_ps(s3, x, y);
        s4 = _mm512_fmadd_ps(s4, x, y), s5 = _mm512_fmadd_ps(s5, x, y), s6 = _mm512_fmadd_ps(s6, x, y),
        s7 = _mm512_fmadd_ps(s7, x, y);
        s8 = _mm512_fmadd_ps(s8, x, y), s9 = _mm512_fmadd_ps(s9, x, y), s10 = _mm512_fmadd_ps(s10, x, y),
        s11 = _mm512_fmadd_ps(s11, x, y);
    }
    const __m512 t = _mm512_add_ps(_mm512_add_ps(_mm512_add_ps(s0, s1), _mm512_add_ps(s2, s3)),
                                   _mm512_add_ps(_mm512_add_ps(_mm512_add_ps(s4, s5), _mm512_add_ps(s6, s7)),
                                                 _mm512_add_ps(_mm512_add_ps(s8, s9), _mm512_add_ps(s10, s11))));
    return _mm512_cvtss_f32(t);
}
#endif

/* Each thread takes its own time, over pieces too short to be interrupted often: the sum is what the cores can do, also while others
 * use them. */
typedef struct race {
    work_fn *work;
    double seconds, fastest[MAX_THREADS];
    float results[MAX_THREADS]; /* stored, so that the work counts as used */
} race;

static void run_one(void *context, int64_t i)
{
    race *r = context;
    const double end = dc_now() + r->seconds;
    double began = dc_now(), now;
    r->fastest[i] = 1e30;
    do {
        r->results[i] += r->work(ROUNDS, 0.999f, 0.001f);
        now = dc_now();
        r->fastest[i] = now - began < r->fastest[i] ? now - began : r->fastest[i];
        began = now;
    } while (now < end);
}

static work_fn *widest(double *flops_a_round, const char **name)
{
    unsigned features = 0;
    dc_cpu_allowed(&features, NULL);
#if defined(__x86_64__)
    if (features & DC_CPU_AVX512F) return *flops_a_round = 12 * 16 * 2, *name = "AVX-512", work_avx512;
    if ((features & DC_CPU_AVX2) && (features & DC_CPU_FMA))
        return *flops_a_round = 12 * 8 * 2, *name = "AVX2", work_avx2;
#endif
    *flops_a_round = SUMS * 2, *name = "plain C";
    return work_plain;
}

static void measure_flops(dc_peak *out, double seconds)
{
    static race r;
    double a_round;
    const int threads = dc_pool_threads() < MAX_THREADS ? dc_pool_threads() : MAX_THREADS;
    r.work = widest(&a_round, &out->registers);
    r.seconds = seconds;
    dc_pool_for(threads, run_one, &r);
    for (int i = 0; i < threads; i++) out->flops += ROUNDS * a_round / r.fastest[i];
}

typedef struct reading {
    uint64_t *data;
    int threads;
    double seconds, fastest[MAX_THREADS];
    uint64_t sums[MAX_THREADS];
} reading;

static uint64_t read_piece(const uint64_t *x)
{
    uint64_t s[8] = {0};
    for (int64_t k = 0; k < PIECE / 8; k += 8)
        for (int j = 0; j < 8; j++) s[j] += x[k + j];
    for (int j = 1; j < 8; j++) s[0] += s[j];
    return s[0];
}

/* Each thread walks its own share, piece by piece, all at the same time; as above its fastest piece counts. */
static void read_share(void *context, int64_t i)
{
    reading *r = context;
    const int64_t all = READ_BYTES / PIECE, first = all * i / r->threads, end = all * (i + 1) / r->threads;
    const double stop = dc_now() + r->seconds;
    double began = dc_now(), now = began;
    r->fastest[i] = 1e30;
    while (now < stop)
        for (int64_t k = first; k < end; k++) {
            r->sums[i] += read_piece(r->data + k * (PIECE / 8));
            now = dc_now();
            r->fastest[i] = now - began < r->fastest[i] ? now - began : r->fastest[i];
            began = now;
        }
}

static void write_piece(void *context, int64_t i)
{
    uint64_t *x = (uint64_t *)context + i * (PIECE / 8);
    for (int64_t k = 0; k < PIECE / 8; k++) x[k] = (uint64_t)k;
}

static void measure_memory(dc_peak *out, double seconds)
{
    static reading r;
    r.data = dc_alloc_aligned(READ_BYTES);
    if (!r.data) return;
    r.seconds = seconds, r.threads = dc_pool_threads() < MAX_SHARES ? dc_pool_threads() : MAX_SHARES;
    dc_pool_for(READ_BYTES / PIECE, write_piece, r.data);
    dc_pool_for(r.threads, read_share, &r);
    for (int i = 0; i < r.threads; i++) out->read_bytes += PIECE / r.fastest[i];
    dc_free(r.data);
}

void dc_peak_measure(dc_peak *out, double seconds, int memory)
{
    *out = (dc_peak){0};
    measure_flops(out, seconds);
    if (memory) measure_memory(out, seconds);
}
