/* kernels/gemm_onednn.c -- oneDNN behind kernels/gemm.h; the one file that knows its two C APIs (2.x, and 3.x whose
 * descriptors are opaque and whose primitives are created in one step).
 *
 * A primitive is made for one shape, which takes up to a millisecond and the library's memory; the last 512 shapes are kept, because the
 * number of tokens changes from batch to batch. Operands stay as they are stored: strides say what is transposed. */
#include "kernels/dev_cpu.h"

#include <dnnl.h>
#include <string.h>

#include "core/arena.h"
#include "core/pool.h"
#include "kernels/cpu.h"
#include "kernels/table.h"

#define STRING_(x) #x
#define STRING(x)  STRING_(x)
#define VERSION    "oneDNN " STRING(DNNL_VERSION_MAJOR) "." STRING(DNNL_VERSION_MINOR) "." STRING(DNNL_VERSION_PATCH)

/* Everything a primitive depends on; compared as bytes, so it has no padding. */
typedef struct key {
    int64_t M, N, K, lda, ldb, ldc;
    float alpha;
    int32_t threads, flags, unused;
} key;

enum { TRANS_A = 1, TRANS_B = 2, ACCUMULATE = 4, BIAS = 8 };
enum { A, B, C, BIAS_ROW, OPERANDS };
enum { SETS = 64, WAYS = 8 };

typedef struct entry {
    key key;
    dnnl_primitive_t primitive; /* NULL: free */
    dnnl_memory_t memory[OPERANDS], scratch;
    uint64_t used;
} entry;

struct dc_onednn {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    void *scratch; /* the largest that any primitive asked for */
    size_t scratch_bytes;
    uint64_t clock;
    entry entries[SETS][WAYS];
};

static int failed(dc_error *err, dnnl_status_t status, const char *what, const key *k)
{
    if (status == dnnl_out_of_memory) return dc_fail(err, DC_ENOMEM, "gemm: oneDNN has no memory for a product");
    return dc_fail(err, DC_EIO, "gemm: oneDNN failed to %s a product of %lld x %lld x %lld (status %d)", what,
                   (long long)k->M, (long long)k->N, (long long)k->K, (int)status);
}

#define TRY(call)                              \
    do {                                       \
        status = (call);                       \
        if (status != dnnl_success) goto done; \
    } while (0)

static void entry_release(entry *e)
{
    dnnl_primitive_destroy(e->primitive);
    for (int i = 0; i < OPERANDS; i++)
        if (e->memory[i]) dnnl_memory_destroy(e->memory[i]);
    if (e->scratch) dnnl_memory_destroy(e->scratch);
    *e = (entry){0};
}

/* The instruction sets that `features` leaves to the library. */
static dnnl_cpu_isa_t widest(unsigned features)
{
    const unsigned avx2 = DC_CPU_AVX2 | DC_CPU_FMA;
    const unsigned core = avx2 | DC_CPU_AVX512F | DC_CPU_AVX512BW | DC_CPU_AVX512VL | DC_CPU_AVX512DQ;
    const unsigned vnni = core | DC_CPU_AVX512_VNNI, bf16 = vnni | DC_CPU_AVX512_BF16;
    const unsigned amx = bf16 | DC_CPU_AMX_TILE | DC_CPU_AMX_BF16 | DC_CPU_AMX_INT8;
    if ((features & amx) == amx) return dnnl_cpu_isa_all;
    if ((features & bf16) == bf16) return dnnl_cpu_isa_avx512_core_bf16;
    if ((features & vnni) == vnni) return dnnl_cpu_isa_avx512_core_vnni;
    if ((features & core) == core) return dnnl_cpu_isa_avx512_core;
    if ((features & avx2) == avx2) return dnnl_cpu_isa_avx2;
    return dnnl_cpu_isa_sse41;
}

int dc_onednn_open(dc_onednn **out, unsigned features, dc_error *err)
{
    dc_onednn *o = dc_calloc(1, sizeof *o);
    if (!o) return dc_fail_memory(err, sizeof *o, "the state of oneDNN");
    /* Only a process that has not used the library can narrow it; a wider path stays, and describe says so. */
    if (features != dc_cpu_found()) dnnl_set_max_cpu_isa(widest(features));
    dnnl_status_t status;
    TRY(dnnl_engine_create(&o->engine, dnnl_cpu, 0));
    TRY(dnnl_stream_create(&o->stream, o->engine, dnnl_stream_default_flags));
done:
    if (status != dnnl_success) {
        dc_onednn_close(o);
        return dc_fail(err, DC_EIO, "cannot start " VERSION " (status %d)", (int)status);
    }
    *out = o;
    return DC_OK;
}

void dc_onednn_close(dc_onednn *o)
{
    if (!o) return;
    for (int s = 0; s < SETS; s++)
        for (int w = 0; w < WAYS; w++)
            if (o->entries[s][w].primitive) entry_release(&o->entries[s][w]);
    if (o->stream) dnnl_stream_destroy(o->stream);
    if (o->engine) dnnl_engine_destroy(o->engine);
    dc_free(o->scratch);
    dc_free(o);
}

size_t dc_onednn_scratch_bytes(const dc_onednn *o) { return o->scratch_bytes; }

/* The attributes of a product: alpha on the sum, then + C. Bias is added before alpha by the library, so a product with both
 * comes here without its bias. Strict: an environment variable may not turn fp32 into bf16. */
static dnnl_status_t make_attr(dnnl_primitive_attr_t *out, const key *k)
{
    dnnl_status_t status;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t ops = NULL;
    TRY(dnnl_primitive_attr_create(&attr));
    TRY(dnnl_primitive_attr_set_fpmath_mode(attr, dnnl_fpmath_mode_strict));
    TRY(dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user));
    TRY(dnnl_post_ops_create(&ops));
#if DNNL_VERSION_MAJOR >= 3
    if (k->alpha != 1) TRY(dnnl_post_ops_append_eltwise(ops, dnnl_eltwise_linear, k->alpha, 0));
    if (k->flags & ACCUMULATE) TRY(dnnl_post_ops_append_sum(ops, 1, 0, dnnl_data_type_undef));
#else
    if (k->alpha != 1) TRY(dnnl_primitive_attr_set_output_scales(attr, 1, 0, &k->alpha));
    if (k->flags & ACCUMULATE) TRY(dnnl_post_ops_append_sum(ops, 1));
#endif
    TRY(dnnl_primitive_attr_set_post_ops(attr, ops));
done:
    if (ops) dnnl_post_ops_destroy(ops);
    if (status != dnnl_success && attr) {
        dnnl_primitive_attr_destroy(attr);
        attr = NULL;
    }
    *out = attr;
    return status;
}

typedef struct shape {
    dnnl_dims_t dims, strides;
} shape;

static void shapes_of(shape s[OPERANDS], const key *k)
{
    const int ta = k->flags & TRANS_A, tb = k->flags & TRANS_B;
    s[A] = (shape){{k->M, k->K}, {ta ? 1 : k->lda, ta ? k->lda : 1}};
    s[B] = (shape){{k->K, k->N}, {tb ? 1 : k->ldb, tb ? k->ldb : 1}};
    s[C] = (shape){{k->M, k->N}, {k->ldc, 1}};
    s[BIAS_ROW] = (shape){{1, k->N}, {k->N, 1}};
}

static dnnl_status_t make_layouts(dnnl_memory_desc_t md[OPERANDS], const key *k)
{
    shape s[OPERANDS];
    shapes_of(s, k);
    for (int i = 0; i < OPERANDS; i++) {
#if DNNL_VERSION_MAJOR >= 3
        const dnnl_status_t status = dnnl_memory_desc_create_with_strides(&md[i], 2, s[i].dims, dnnl_f32, s[i].strides);
#else
        const dnnl_status_t status = dnnl_memory_desc_init_by_strides(&md[i], 2, s[i].dims, dnnl_f32, s[i].strides);
#endif
        if (status != dnnl_success) return status;
    }
    return dnnl_success;
}

static void drop_layouts(dnnl_memory_desc_t md[OPERANDS])
{
#if DNNL_VERSION_MAJOR >= 3
    for (int i = 0; i < OPERANDS; i++)
        if (md[i]) dnnl_memory_desc_destroy(md[i]);
#else
    (void)md;
#endif
}

static dnnl_status_t make_primitive_desc(dnnl_primitive_desc_t *out, dnnl_engine_t engine, dnnl_memory_desc_t md[OPERANDS],
                                         const key *k)
{
    dnnl_primitive_attr_t attr;
    dnnl_status_t status;
    TRY(make_attr(&attr, k));
#if DNNL_VERSION_MAJOR >= 3
    status = dnnl_matmul_primitive_desc_create(out, engine, md[A], md[B], k->flags & BIAS ? md[BIAS_ROW] : NULL, md[C], attr);
#else
    dnnl_matmul_desc_t desc;
    status = dnnl_matmul_desc_init(&desc, &md[A], &md[B], k->flags & BIAS ? &md[BIAS_ROW] : NULL, &md[C]);
    if (status == dnnl_success) status = dnnl_primitive_desc_create(out, &desc, attr, engine, NULL);
#endif
    dnnl_primitive_attr_destroy(attr);
done:
    return status;
}

static dnnl_status_t make_memory(dnnl_memory_t *out, dnnl_engine_t engine, dnnl_memory_desc_t *md)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_memory_create(out, *md, engine, DNNL_MEMORY_NONE);
#else
    return dnnl_memory_create(out, md, engine, DNNL_MEMORY_NONE);
#endif
}

/* Memory for the primitive's scratchpad; all primitives share the device's block, which grows here alone. */
static dnnl_status_t make_scratch(dc_onednn *o, entry *e, const_dnnl_primitive_desc_t pd)
{
#if DNNL_VERSION_MAJOR >= 3
    const_dnnl_memory_desc_t md = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
#else
    const dnnl_memory_desc_t *md = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
#endif
    const size_t bytes = md ? dnnl_memory_desc_get_size(md) : 0;
    if (!bytes) return dnnl_success;
    if (bytes > o->scratch_bytes) {
        void *more = dc_alloc_aligned(bytes);
        if (!more) return dnnl_out_of_memory;
        dc_free(o->scratch);
        o->scratch = more;
        o->scratch_bytes = bytes;
    }
    return dnnl_memory_create(&e->scratch, md, o->engine, DNNL_MEMORY_NONE);
}

static int make_entry(dc_onednn *o, entry *e, const key *k, dc_error *err)
{
    dnnl_status_t status;
    dnnl_memory_desc_t md[OPERANDS];
    dnnl_primitive_desc_t pd = NULL;
    memset(md, 0, sizeof md);
    TRY(make_layouts(md, k));
    TRY(make_primitive_desc(&pd, o->engine, md, k));
    for (int i = 0; i < OPERANDS; i++) TRY(make_memory(&e->memory[i], o->engine, &md[i]));
    TRY(make_scratch(o, e, pd));
    TRY(dnnl_primitive_create(&e->primitive, pd));
    e->key = *k;
done:
    if (pd) dnnl_primitive_desc_destroy(pd);
    drop_layouts(md);
    if (status == dnnl_success) return DC_OK;
    entry_release(e);
    return failed(err, status, "prepare", k);
}

static uint64_t hash(const key *k)
{
    uint64_t words[sizeof *k / 8], h = 0x9E3779B97F4A7C15u;
    memcpy(words, k, sizeof words);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        h = (h ^ words[i]) * 0xD6E8FEB86659FD93u;
        h ^= h >> 32;
    }
    return h;
}

/* The primitive for k: found, or made in place of the set's free or longest unused one. */
static int find_entry(entry **out, dc_onednn *o, const key *k, dc_error *err)
{
    entry *set = o->entries[hash(k) % SETS], *oldest = set;
    for (int w = 0; w < WAYS; w++) {
        if (set[w].primitive && memcmp(&set[w].key, k, sizeof *k) == 0) {
            *out = &set[w];
            return DC_OK;
        }
        if (set[w].used < oldest->used) oldest = &set[w];
    }
    if (oldest->primitive) entry_release(oldest);
    *out = oldest;
    return make_entry(o, oldest, k, err);
}

int dc_onednn_gemm(dc_onednn *o, const dc_gemm *g, dc_error *err)
{
    const int bias_first = g->bias && g->alpha != 1;
    if (bias_first) dc_gemm_prime_bias(g);
    const int flags = (g->trans_a ? TRANS_A : 0) | (g->trans_b ? TRANS_B : 0) |
                      (g->accumulate || bias_first ? ACCUMULATE : 0) | (g->bias && !bias_first ? BIAS : 0);
    const key k = {.M = g->M, .N = g->N, .K = g->K, .lda = g->lda, .ldb = g->ldb, .ldc = g->ldc, .alpha = g->alpha,
                   .threads = dc_pool_threads(), .flags = flags};
    entry *e;
    const int rc = find_entry(&e, o, &k, err);
    if (rc != DC_OK) return rc;
    e->used = ++o->clock;
    /* The library reads its inputs only; its handles are not const. */
    union { const void *in; void *out; } a = {g->a.data}, b = {g->b.data}, bias = {g->bias};
    dnnl_status_t status;
    TRY(dnnl_memory_set_data_handle(e->memory[A], a.out));
    TRY(dnnl_memory_set_data_handle(e->memory[B], b.out));
    TRY(dnnl_memory_set_data_handle(e->memory[C], g->c.data));
    dnnl_exec_arg_t args[OPERANDS + 1] = {
        {DNNL_ARG_SRC, e->memory[A]}, {DNNL_ARG_WEIGHTS, e->memory[B]}, {DNNL_ARG_DST, e->memory[C]}};
    int n = 3;
    if (flags & BIAS) {
        TRY(dnnl_memory_set_data_handle(e->memory[BIAS_ROW], bias.out));
        args[n++] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, e->memory[BIAS_ROW]};
    }
    if (e->scratch) {
        TRY(dnnl_memory_set_data_handle(e->scratch, o->scratch));
        args[n++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, e->scratch};
    }
    TRY(dnnl_primitive_execute(e->primitive, o->stream, n, args));
    TRY(dnnl_stream_wait(o->stream));
done:
    return status == dnnl_success ? DC_OK : failed(err, status, "compute", &k);
}

const char *dc_onednn_describe(void)
{
    switch ((int)dnnl_get_effective_cpu_isa()) {
    case dnnl_cpu_isa_sse41: return VERSION " (SSE4.1)";
    case dnnl_cpu_isa_avx: return VERSION " (AVX)";
    case dnnl_cpu_isa_avx2: return VERSION " (AVX2)";
    case dnnl_cpu_isa_avx512_core: return VERSION " (AVX-512)";
    case dnnl_cpu_isa_avx512_core_vnni: return VERSION " (AVX-512 VNNI)";
    case dnnl_cpu_isa_avx512_core_bf16: return VERSION " (AVX-512 BF16)";
    case dnnl_cpu_isa_avx512_core_amx: return VERSION " (AMX)";
    default: return VERSION " (other)";
    }
}
