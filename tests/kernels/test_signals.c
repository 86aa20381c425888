/* tests/kernels/test_signals.c -- a product keeps its bits while signals rain on the process, with every library. A handler on a computing
 * thread's stack ended such a product in a corrupted heap within milliseconds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/stop.h"
#include "kernels/dev.h"

enum { M = 256, N = 1024, K = 1536, ROUNDS = 20 };

/* A child that sends SIGUSR1 to this process until it is killed. */
static pid_t rain(void)
{
    const pid_t parent = getpid(), child = fork();
    while (child == 0) {
        if (kill(parent, SIGUSR1)) _exit(0);
        usleep(50);
    }
    return child;
}

static void product(dc_dev *dev, float *c, const float *a, const float *b)
{
    const dc_gemm g = {.c = {c, DC_F32},
                       .a = {a, DC_F32},
                       .b = {b, DC_F32},
                       .M = M,
                       .N = N,
                       .K = K,
                       .lda = K,
                       .ldb = K,
                       .ldc = N,
                       .trans_b = 1,
                       .alpha = 1};
    dev->op.gemm(dev, &g);
}

static void products_survive(void **unused)
{
    (void)unused;
    float *a = malloc(sizeof(float) * M * K), *b = malloc(sizeof(float) * N * K);
    float *dry = malloc(sizeof(float) * M * N), *wet = malloc(sizeof(float) * M * N);
    for (int i = 0; i < M * K; i++) a[i] = (float)(i % 13 - 6) / 7;
    for (int i = 0; i < N * K; i++) b[i] = (float)(i % 11 - 5) / 3;
    for (int backend = 0; backend < DC_GEMM_BACKENDS; backend++) {
        dc_dev *dev = NULL;
        dc_dev_options o = dc_dev_defaults();
        o.backend = (dc_gemm_backend)backend;
        if (!dc_gemm_has(o.backend)) continue;
        assert_int_equal(dc_dev_open(&dev, &o, NULL), DC_OK);
        product(dev, dry, a, b);
        const pid_t child = rain();
        assert_true(child > 0);
        for (int i = 0; i < (backend == DC_GEMM_REF ? 1 : ROUNDS); i++) {
            product(dev, wet, a, b);
            assert_memory_equal(dry, wet, sizeof(float) * M * N);
        }
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        dc_dev_close(dev);
    }
    assert_int_equal(dc_stop_requested(), SIGUSR1);
    free(a), free(b), free(dry), free(wet);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(products_survive)};
    dc_stop_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
