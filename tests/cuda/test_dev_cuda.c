/* tests/cuda/test_dev_cuda.c -- the CUDA device itself, on the emulation: there queued work waits until something waits for it. */
#include "cuda_kit.h"

#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "emu.h"
#include "kernels/cuda_dev.h"

static int fresh_card(void **state)
{
    (void)state;
    dc_emu_reset();
    dc_emu_devices(1);
    dc_emu_memory((size_t)1 << 30);
    dc_emu_capability(8, 0);
    dc_emu_protect(0);
    dc_emu_quiet(1);
    return 0;
}

static int try_open(dc_dev **dev, const char *name, dc_error *err)
{
    dc_dev_options options = dc_dev_defaults();
    options.name = name;
    return dc_dev_open(dev, &options, err);
}

static dc_dev *open_card(void)
{
    dc_dev *dev = NULL;
    dc_error err = {0};
    if (try_open(&dev, "cuda", &err)) fail_msg("%s", err.message);
    return dev;
}

static void *take(dc_dev *dev, size_t bytes)
{
    void *memory = NULL;
    assert_int_equal(dc_dev_alloc(dev, &memory, bytes, "a test", NULL), DC_OK);
    assert_int_equal((uintptr_t)memory % 64, 0);
    return memory;
}

/* Uploads of three pieces each, together twice the pinned ring; the host's memory is overwritten as soon as they are queued. */
static void uploads(void **state)
{
    (void)state;
    enum { N = (9 << 20) + 17 };
    dc_dev *dev = open_card();
    unsigned char *host = malloc(N), *back = calloc(1, N);
    void *at[4];
    for (int turn = 0; turn < 4; turn++) {
        at[turn] = take(dev, N);
        for (int i = 0; i < N; i++) host[i] = (unsigned char)(i * 7 + turn + i / 251);
        dc_dev_upload(dev, at[turn], host, N);
        memset(host, 0xee, N);
    }
    dc_dev_copy(dev, at[0], at[3], N);
    for (int turn = 0; turn < 4; turn++) {
        dc_dev_download(dev, back, at[turn], N);
        const int source = turn ? turn : 3;
        for (int i = 0; i < N; i++)
            if (back[i] != (unsigned char)(i * 7 + source + i / 251)) fail_msg("upload %d differs at %d", turn, i);
        dc_dev_free(dev, at[turn]);
    }
    assert_int_equal(dc_dev_sync(dev, NULL), DC_OK);
    dc_dev_close(dev);
    free(host);
    free(back);
}

static void imports(void **state)
{
    (void)state;
    dc_dev *dev = open_card();
    char host[1000], back[1000];
    memset(host, 3, sizeof host);
    const void *seen = NULL;
    assert_int_equal(dc_dev_import(dev, &seen, host, sizeof host, "weights", NULL), DC_OK);
    assert_ptr_not_equal(seen, host);
    memset(host, 4, sizeof host);
    dc_dev_download(dev, back, seen, sizeof back);
    for (size_t i = 0; i < sizeof back; i++) assert_int_equal(back[i], 3);
    dc_dev_drop(dev, seen);
    assert_int_equal(dc_dev_sync(dev, NULL), DC_OK);
    dc_dev_close(dev);
}

/* More tables than pieces may be under way, together more than the device keeps: each is what it was when its turn came. */
static void tables(void **state)
{
    (void)state;
    enum { N = 200, BYTES = 60000 };
    dc_dev *dev = open_card();
    unsigned char *host = malloc(BYTES), *all = take(dev, N), back[N];
    for (int i = 0; i < N; i++) {
        memset(host, i, BYTES);
        const unsigned char *table = dc_cuda_stage(dev, host, BYTES, "tables");
        assert_non_null(table);
        assert_int_equal((uintptr_t)table % 16, 0);
        dc_dev_copy(dev, all + i, table + BYTES - 1, 1);
    }
    dc_dev_download(dev, back, all, N);
    for (int i = 0; i < N; i++) assert_int_equal(back[i], i);
    assert_null(dc_cuda_stage(dev, host, DC_CUDA_STAGE + 1, "tables"));
    dc_error err = {0};
    assert_int_equal(dc_dev_sync(dev, &err), DC_ENOMEM);
    assert_non_null(strstr(err.message, "tables: a table of 1048577 bytes"));
    dc_dev_free(dev, all);
    dc_dev_close(dev);
    free(host);
}

/* Results come with the sync; more of them than are kept come before. */
static void results(void **state)
{
    (void)state;
    enum { N = 150 };
    dc_dev *dev = open_card();
    double host[N], seen[N] = {0}, *device = take(dev, sizeof host);
    for (int i = 0; i < N; i++) host[i] = i + 0.5;
    dc_dev_upload(dev, device, host, sizeof host);
    for (int i = 0; i < N; i++) dc_cuda_result(dev, &seen[i], device + i, sizeof *seen, "results");
    assert_true(seen[N - 1] == 0);
    assert_int_equal(dc_dev_sync(dev, NULL), DC_OK);
    assert_memory_equal(seen, host, sizeof host);
    dc_dev_free(dev, device);
    dc_dev_close(dev);
}

/* The first failure stays, named after its op, until a sync tells it, once. */
static void failures_stick(void **state)
{
    (void)state;
    dc_dev *dev = open_card();
    dc_error err = {0};
    cudaSetDevice(99);
    dc_cuda_launched(dev, "attn_fwd");
    cudaSetDevice(98);
    dc_cuda_launched(dev, "rope");
    assert_int_equal(dc_dev_sync(dev, &err), DC_EIO);
    assert_non_null(strstr(err.message, "attn_fwd: emulated sm_80: invalid device ordinal"));
    assert_int_equal(dc_dev_sync(dev, NULL), DC_OK);
    dc_dev_close(dev);
}

/* As a kernel might; ASan, which would tell as well, is not to look. */
__attribute__((no_sanitize("address"))) static void write_behind(unsigned char *memory, size_t bytes)
{
    memory[bytes] = 1;
}

/* What goes wrong while work runs is found later: the message says so, and the card stays unusable. */
static void failures_of_work(void **state)
{
    (void)state;
    dc_dev *dev = open_card();
    unsigned char *memory = take(dev, 256), host[256] = {0};
    dc_error err = {0};
    dc_dev_upload(dev, memory, host, sizeof host);
    assert_int_equal(dc_dev_sync(dev, NULL), DC_OK);
    write_behind(memory, sizeof host);
    assert_int_equal(dc_dev_sync(dev, &err), DC_EIO);
    assert_non_null(strstr(err.message, "illegal memory access"));
    assert_non_null(strstr(err.message, "found by sync"));
    assert_int_equal(dc_dev_sync(dev, NULL), DC_EIO);
    dc_dev_close(dev);
}

static void memory_is_counted(void **state)
{
    (void)state;
    size_t peak = 0;
    dc_dev *dev = open_card();
    const size_t own = dc_emu_count().live_bytes;
    assert_int_equal(own, dc_dev_scratch_bytes(dev));
    assert_int_equal(dc_dev_memory_bytes(dev), (size_t)1 << 30);
    void *a = take(dev, 1000), *b = take(dev, 500000);
    assert_int_equal(dc_cuda_handed_out(dev, &peak), 501000);
    assert_int_equal(dc_emu_count().live_bytes, own + 501000);
    dc_dev_free(dev, a);
    void *c = take(dev, 200);
    assert_int_equal(dc_cuda_handed_out(dev, &peak), 500200);
    assert_int_equal(peak, 501000);
    dc_dev_free(dev, b);
    dc_dev_free(dev, c);
    dc_dev_free(dev, NULL);
    assert_int_equal(dc_cuda_handed_out(dev, NULL), 0);
    dc_dev_close(dev);
    assert_int_equal(dc_emu_count().live, 0);
}

static void out_of_memory(void **state)
{
    (void)state;
    dc_dev *dev = open_card();
    void *memory = take(dev, 5000000);
    dc_error err = {0};
    void *none = NULL;
    assert_int_equal(dc_dev_alloc(dev, &none, (size_t)3 << 30, "the optimizer's state", &err), DC_ENOMEM);
    assert_null(none);
    assert_non_null(strstr(err.message, "no memory for 3.22 GB of the optimizer's state on emulated sm_80"));
    assert_non_null(strstr(err.message, " of 1.07 GB are free, decant has 5.0 MB"));
    assert_int_equal(dc_dev_sync(dev, NULL), DC_OK); /* it was told, and does not stick */
    dc_dev_free(dev, memory);
    dc_dev_close(dev);
    fresh_card(NULL);
    dc_emu_memory(12 << 20);
    err = (dc_error){0};
    assert_int_equal(try_open(&dev, "auto", &err), DC_ENOMEM); /* there is a card: the CPU is no answer */
    assert_non_null(strstr(err.message, "scratch"));
    assert_int_equal(dc_emu_count().live, 0);
}

static void failing_allocations(void **state)
{
    (void)state;
    int failures = 0;
    for (int on_card = 0; on_card < 2; on_card++) {
        for (int n = 1;; n++) {
            dc_dev *dev = NULL;
            void *a = NULL;
            dc_error err = {0};
            if (on_card) dc_emu_malloc_fail_at(n);
            else dc_alloc_fail_at(n);
            int rc = try_open(&dev, "cuda", &err);
            if (rc == DC_OK) rc = dc_dev_alloc(dev, &a, 64, "sixty-four bytes", &err);
            dc_emu_malloc_fail_at(0);
            dc_alloc_fail_at(0);
            if (rc == DC_OK) dc_dev_free(dev, a);
            dc_dev_close(dev);
            assert_int_equal(dc_emu_count().live, 0);
            if (rc == DC_OK) break;
            failures++;
            assert_int_equal(rc, DC_ENOMEM);
            assert_true(err.message[0]);
        }
    }
    assert_int_equal(failures, 8);
}

static void expect_refused(const char *name, const char *because)
{
    dc_dev *dev = NULL;
    dc_error err = {0};
    assert_int_equal(try_open(&dev, name, &err), DC_EUNKNOWN);
    assert_null(dev);
    if (!strstr(err.message, because) || !strstr(err.message, name)) fail_msg("%s", err.message);
}

static void names(void **state)
{
    (void)state;
    dc_emu_devices(2);
    static const char *const good[] = {"auto", "cuda", "cuda:0", "cuda:1", NULL};
    for (size_t i = 0; i < CK_COUNT(good); i++) {
        dc_dev *dev = NULL;
        assert_int_equal(try_open(&dev, good[i], NULL), DC_OK);
        assert_string_equal(dc_dev_describe(dev), "emulated sm_80, 1 GiB, driver 13.0");
        assert_string_equal(dc_dev_path(dev), "cuda sm_80, bf16, cuBLASLt 13.0.0");
        assert_string_equal(dc_dev_why(dev), "");
        assert_int_equal(dev->activation, DC_BF16);
        dc_dev_close(dev);
    }
    expect_refused("cuda:2", "this machine has 2 cards, the last is cuda:1");
    expect_refused("cuda:x", "is unknown; known are auto, cpu, cuda, cuda:N");
    expect_refused("cuda:", "is unknown");
    expect_refused("cuda:1x", "is unknown");
    expect_refused("cuda:99999999999", "is unknown");
}

static int card_of(const char *name, int card)
{
    dc_dev_options options = dc_dev_defaults();
    dc_dev *dev = NULL;
    int index = -1;
    options.name = name;
    options.card = card;
    assert_int_equal(dc_dev_open(&dev, &options, NULL), DC_OK);
    cudaSetDevice(0);
    assert_ptr_equal(dc_dev_stream(dev), dc_cuda_stream(dev));
    cudaGetDevice(&index);
    dc_dev_close(dev);
    return index;
}

/* Each rank of a machine takes the next card, unless the recipe names one, or only one is to be seen. */
static void cards_of_ranks(void **state)
{
    (void)state;
    dc_emu_devices(2);
    assert_int_equal(card_of("cuda", 0), 0);
    assert_int_equal(card_of("cuda", 1), 1);
    assert_int_equal(card_of("auto", 1), 1);
    assert_int_equal(card_of("cuda", 3), 1);
    assert_int_equal(card_of("cuda:0", 1), 0);
}

/* By name it is an error; "auto" takes the CPU and can say why. */
static void expect_fallback(const char *because)
{
    dc_dev *dev = NULL;
    expect_refused("cuda", because);
    assert_int_equal(try_open(&dev, "auto", NULL), DC_OK);
    assert_non_null(strstr(dc_dev_path(dev), "cpu "));
    assert_non_null(strstr(dc_dev_why(dev), because));
    assert_int_equal(dev->activation, DC_F32);
    dc_dev_close(dev);
    assert_int_equal(try_open(&dev, "cpu", NULL), DC_OK);
    assert_string_equal(dc_dev_why(dev), "");
    dc_dev_close(dev);
}

static void no_card(void **state)
{
    (void)state;
    dc_emu_devices(0);
    expect_fallback("no NVIDIA driver");
    dc_emu_devices(1);
    dc_emu_capability(7, 5);
    expect_fallback("compute capability 7.5, 8.0 or newer is needed");
}

static void activations(void **state)
{
    (void)state;
    dc_dev_options options = dc_dev_defaults();
    dc_dev *dev = NULL;
    dc_error err = {0};
    options.name = "cuda";
    options.activation = DC_F32;
    options.backend = DC_GEMM_REF;
    assert_int_equal(dc_dev_open(&dev, &options, NULL), DC_OK);
    assert_int_equal(dev->activation, DC_F32);
    assert_string_equal(dc_dev_path(dev), "cuda sm_80, fp32, plain products");
    dc_dev_close(dev);
    options.activation = DC_F16;
    assert_int_equal(dc_dev_open(&dev, &options, &err), DC_EUNKNOWN);
    options.name = "cpu";
    assert_int_equal(dc_dev_open(&dev, &options, &err), DC_EUNKNOWN);
    options.name = "cuda";
    options.activation = DC_BF16;
    options.backend = DC_GEMM_OPENBLAS;
    assert_int_equal(dc_dev_open(&dev, &options, &err), DC_EUNKNOWN);
}

/* The type by the environment holds for those who did not ask for one. */
static void type_by_environment(void **state)
{
    (void)state;
    static const struct {
        const char *set;
        dc_dtype asked, found;
    } cases[] = {{"f32", DC_DTYPE_NONE, DC_F32}, {"bf16", DC_DTYPE_NONE, DC_BF16}, {"f32", DC_BF16, DC_BF16}};
    dc_dev_options options = dc_dev_defaults();
    dc_dev *dev = NULL;
    dc_error err = {0};
    options.name = "cuda";
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        setenv("DC_CUDA_TYPE", cases[i].set, 1);
        options.activation = cases[i].asked;
        assert_int_equal(dc_dev_open(&dev, &options, &err), DC_OK);
        assert_int_equal(dev->activation, cases[i].found);
        assert_int_equal(strstr(dc_dev_describe(dev), ", fp32") != NULL, cases[i].found == DC_F32);
        dc_dev_close(dev);
    }
    setenv("DC_CUDA_TYPE", "f16", 1);
    expect_refused("cuda", "DC_CUDA_TYPE is 'f16'; known are bf16 and f32");
    unsetenv("DC_CUDA_TYPE");
}

/* Nothing of the host's side touches the card's memory but through queued work. */
static void under_protection(void **state)
{
    dc_emu_protect(1);
    imports(state);
    results(state);
}

static void recordings(void **state)
{
    (void)state;
    enum { N = 100 };
    dc_dev *dev = open_card();
    dc_recording *r = NULL, *broken = NULL;
    dc_error err = {0};
    float x[N], y[N];
    float *const a = take(dev, sizeof x), *const b = take(dev, sizeof y);
    assert_int_equal(dc_dev_records(dev), 1);
    for (int i = 0; i < N; i++) x[i] = (float)i, y[i] = 1;
    dc_dev_upload(dev, a, x, sizeof x);
    dc_dev_upload(dev, b, y, sizeof y);
    assert_int_equal(dc_dev_record(dev, &err), DC_OK);
    dev->op.axpy(dev, b, a, 2, N);
    assert_int_equal(dc_dev_recorded(dev, &r, &err), DC_OK);
    for (int i = 0; i < N; i++) x[i] = 3;
    for (int turn = 0; turn < 3; turn++) {
        dc_dev_replay(dev, r);
        if (turn == 1) dc_dev_upload(dev, a, x, sizeof x); /* read anew by the third */
    }
    dc_dev_recording_free(dev, r);
    dc_dev_download(dev, y, b, sizeof y);
    for (int i = 0; i < N; i++)
        assert_true(y[i] == (float)(1 + 2 * i + 2 * i + 6)); /* and not done while it was recorded */
    assert_int_equal(dc_dev_sync(dev, NULL), DC_OK);

    /* What cannot be captured fails the recording, and nothing else. */
    assert_int_equal(dc_dev_record(dev, &err), DC_OK);
    assert_int_not_equal(cudaStreamSynchronize(dc_cuda_stream(dev)), cudaSuccess);
    dev->op.axpy(dev, b, a, 2, N);
    assert_int_not_equal(dc_dev_recorded(dev, &broken, &err), DC_OK);
    assert_true(!broken && strlen(err.message) > 10);
    dev->op.axpy(dev, b, a, -1, N);
    dc_dev_download(dev, x, b, sizeof x);
    assert_int_equal(dc_dev_sync(dev, NULL), DC_OK);
    for (int i = 0; i < N; i++) assert_true(x[i] == y[i] - 3);
    dc_dev_free(dev, a), dc_dev_free(dev, b);
    dc_dev_close(dev);
}

int main(void)
{
#define ON_A_FRESH_CARD(name) cmocka_unit_test_setup(name, fresh_card)
    const struct CMUnitTest tests[] = {
        ON_A_FRESH_CARD(uploads),
        ON_A_FRESH_CARD(imports),
        ON_A_FRESH_CARD(tables),
        ON_A_FRESH_CARD(results),
        ON_A_FRESH_CARD(failures_stick),
        ON_A_FRESH_CARD(failures_of_work),
        ON_A_FRESH_CARD(out_of_memory),
        ON_A_FRESH_CARD(memory_is_counted),
        ON_A_FRESH_CARD(failing_allocations),
        ON_A_FRESH_CARD(names),
        ON_A_FRESH_CARD(cards_of_ranks),
        ON_A_FRESH_CARD(no_card),
        ON_A_FRESH_CARD(activations),
        ON_A_FRESH_CARD(type_by_environment),
        ON_A_FRESH_CARD(under_protection),
        ON_A_FRESH_CARD(recordings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
