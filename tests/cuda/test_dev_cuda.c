/* tests/cuda/test_dev_cuda.c -- the CUDA device on the emulation, where queued work waits until something waits for it. */
#include "cuda_kit.h"

#include <stdlib.h>
#include <string.h>

#include "emu.h"
#include "kernels/cuda_dev.h"

static dc_dev *open_named(const char *name)
{
    dc_dev_options options = dc_dev_defaults();
    dc_error err = {0};
    dc_dev *dev = NULL;
    options.name = name;
    if (dc_dev_open(&dev, &options, &err)) fail_msg("%s", err.message);
    return dev;
}

static void transfers(void **state)
{
    (void)state;
    enum { N = 9 << 20 }; /* three pieces of an upload, more than half of the ring */
    dc_dev *dev = open_named("cuda");
    unsigned char *host = malloc(N), *back = calloc(1, N);
    void *a = NULL, *b = NULL;
    assert_int_equal(dc_dev_alloc(dev, &a, N, "a", NULL), DC_OK);
    assert_int_equal(dc_dev_alloc(dev, &b, N, "b", NULL), DC_OK);
    for (int turn = 0; turn < 4; turn++) {
        for (int i = 0; i < N; i++) host[i] = (unsigned char)(i * 7 + turn + i / 251);
        dc_dev_upload(dev, a, host, N);
        memset(host, 0xee, N); /* it was queued, and the host's memory is free */
        dc_dev_copy(dev, b, a, N);
    }
    dc_dev_download(dev, back, b, N);
    for (int i = 0; i < N; i++) assert_int_equal(back[i], (unsigned char)(i * 7 + 3 + i / 251));
    dc_dev_free(dev, a);
    dc_dev_free(dev, b);
    assert_int_equal(dc_dev_sync(dev, NULL), DC_OK);
    dc_dev_close(dev);
    free(host);
    free(back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(transfers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
