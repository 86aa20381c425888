/* tests/kernels/test_dev.c -- opening devices, their memory, what a processor is said to have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "kernels/cpu.h"
#include "kernels/dev.h"
#include "kernels/dev_cpu.h"

static void names(void **state)
{
    (void)state;
    const char *const good[] = {"auto", "cpu", NULL};
    for (size_t i = 0; i < 3; i++) {
        dc_dev_options options = dc_dev_defaults();
        options.name = good[i];
        dc_dev *dev = NULL;
        assert_int_equal(dc_dev_open(&dev, &options, NULL), DC_OK);
        assert_non_null(strstr(dc_dev_describe(dev), "core"));
        assert_non_null(strstr(dc_dev_path(dev), "cpu "));
        assert_null(dc_dev_stream(dev));
        dc_dev_close(dev);
    }
    const char *const bad[] = {"cuda", "cuda:1", "gpu", ""};
    for (size_t i = 0; i < 4; i++) {
        dc_dev_options options = dc_dev_defaults();
        options.name = bad[i];
        dc_dev *dev = NULL;
        dc_error err = {0};
        assert_int_equal(dc_dev_open(&dev, &options, &err), DC_EUNKNOWN);
        assert_null(dev);
        assert_non_null(strstr(err.message, bad[i]));
    }
    dc_dev_close(NULL);
}

static void memory(void **state)
{
    (void)state;
    dc_dev *dev = NULL;
    assert_int_equal(dc_dev_open(&dev, NULL, NULL), DC_OK);
    void *a = NULL, *b = NULL;
    assert_int_equal(dc_dev_alloc(dev, &a, 1000, "a", NULL), DC_OK);
    assert_int_equal(dc_dev_alloc(dev, &b, 1000, "b", NULL), DC_OK);
    assert_int_equal((uintptr_t)a % 64, 0);
    char host[1000], back[1000] = {0};
    for (int i = 0; i < 1000; i++) host[i] = (char)i;
    dc_dev_upload(dev, a, host, sizeof host);
    dc_dev_copy(dev, b, a, sizeof host);
    dc_dev_download(dev, back, b, sizeof back);
    assert_memory_equal(host, back, sizeof host);
    const void *seen = NULL;
    assert_int_equal(dc_dev_import(dev, &seen, host, sizeof host, "host", NULL), DC_OK);
    assert_ptr_equal(seen, host);
    dc_dev_drop(dev, seen);
    dc_dev_free(dev, a);
    dc_dev_free(dev, b);
    dc_dev_free(dev, NULL);
    assert_true(dc_dev_scratch_bytes(dev) > 0);
    assert_int_equal(dc_dev_sync(dev, NULL), DC_OK);
    dc_dev_close(dev);
}

static void failing_allocations(void **state)
{
    (void)state;
    int failures = 0;
    for (long n = 1;; n++) {
        dc_dev *dev = NULL;
        void *a = NULL;
        dc_error err = {0};
        dc_alloc_fail_at(n);
        int rc = dc_dev_open(&dev, NULL, &err);
        if (rc == DC_OK) rc = dc_dev_alloc(dev, &a, 64, "sixty-four bytes", &err);
        dc_alloc_fail_at(0);
        if (rc == DC_OK) {
            dc_dev_free(dev, a);
            dc_dev_close(dev);
            break;
        }
        failures++;
        assert_int_equal(rc, DC_ENOMEM);
        assert_true(err.message[0]);
        dc_dev_close(dev);
    }
    assert_true(failures >= 3);
}

/* A failure of an op stays until the next sync reports it, once. */
static void failures_stick(void **state)
{
    (void)state;
    dc_dev *dev = NULL;
    assert_int_equal(dc_dev_open(&dev, NULL, NULL), DC_OK);
    dc_cpu_state *s = dev->state;
    dc_fail(&s->failed, DC_EIO, "gemm: planted");
    dc_fail(&s->failed, DC_ENOMEM, "a later one");
    dc_error err = {0};
    assert_int_equal(dc_dev_sync(dev, &err), DC_EIO);
    assert_string_equal(err.message, "gemm: planted");
    assert_int_equal(dc_dev_sync(dev, NULL), DC_OK);
    dc_dev_close(dev);
}

static void masks(void **state)
{
    (void)state;
    unsigned all = 0, some = ~0u;
    dc_error err = {0};
    unsetenv("DC_CPU");
    assert_int_equal(dc_cpu_allowed(&all, NULL), DC_OK);
    assert_int_equal(all, dc_cpu_found());
    setenv("DC_CPU", "none", 1);
    assert_int_equal(dc_cpu_allowed(&some, NULL), DC_OK);
    assert_int_equal(some, 0);
    dc_dev *dev = NULL;
    assert_int_equal(dc_dev_open(&dev, NULL, NULL), DC_OK);
    assert_non_null(strstr(dc_dev_path(dev), "plain"));
    dc_dev_close(dev);
    setenv("DC_CPU", "avx2,fma", 1);
    assert_int_equal(dc_cpu_allowed(&some, NULL), DC_OK);
    assert_int_equal(some, all & (DC_CPU_AVX2 | DC_CPU_FMA));
    setenv("DC_CPU", "avx2,avx3", 1);
    assert_int_equal(dc_cpu_allowed(&some, &err), DC_EUNKNOWN);
    assert_non_null(strstr(err.message, "avx3"));
    assert_non_null(strstr(err.message, "amxint8"));
    err = (dc_error){0};
    assert_int_equal(dc_dev_open(&dev, NULL, &err), DC_EUNKNOWN);
    unsetenv("DC_CPU");
    char text[256], brand[64], tiny[6];
    dc_cpu_describe(text, sizeof text, DC_CPU_AVX2 | DC_CPU_FMA | DC_CPU_AVX512_BF16);
    assert_string_equal(text, "AVX2, FMA, AVX-512 BF16");
    dc_cpu_describe(tiny, sizeof tiny, DC_CPU_AVX2 | DC_CPU_FMA);
    assert_string_equal(tiny, "AVX2,");
    dc_cpu_describe(text, sizeof text, 0);
    assert_string_equal(text, "plain C");
    dc_cpu_brand(brand);
    assert_true(strlen(brand) < sizeof brand);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),          cmocka_unit_test(memory), cmocka_unit_test(failing_allocations),
        cmocka_unit_test(failures_stick), cmocka_unit_test(masks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
