/* tests/cuda/test_cuda_ops.c -- every op of the CUDA device against its oracle, with activations in F32 and in BF16.
 *
 * usage: test_cuda_ops [PATTERN]: only tests whose name fits, "rope*". On the emulated device DC_EMU_SCHEDULE names the order of threads;
 * ctest runs the program once for each. test_cuda_ops_card is the same program with the real device, skipped (77) where there is none. */
#include "cuda_kit.h"

#include <stdio.h>

typedef struct op_test {
    const char *name;
    void (*run)(dc_dev *dev);
} op_test;

static dc_dtype activation;
static dc_dev *dev;

static int open_device(void **state)
{
    (void)state;
    dc_dev_options options = dc_dev_defaults();
    dc_error err = {0};
    options.name = "cuda";
    options.activation = activation;
    if (dc_dev_open(&dev, &options, &err)) print_error("%s\n", err.message);
    return err.code;
}

static int close_device(void **state)
{
    (void)state;
    dc_dev_close(dev);
    return 0;
}

static void run_one(void **state)
{
    const op_test *t = *state;
    dc_error err = {0};
    ck_reset();
    t->run(dev);
    if (dc_dev_sync(dev, &err)) fail_msg("%s", err.message);
}

int main(int argc, char **argv)
{
    char card[320];
    dc_error why = {0};
    if (dc_dev_card(card, sizeof card, 0, &why)) {
        printf("skipped: %s\n", why.message);
        return 77;
    }
    printf("on %s\n", card);
    static op_test ops[] = {
#define OP(name) {#name, cuda_test_##name},
        DC_OPS(OP)
#undef OP
    };
    struct CMUnitTest tests[CK_COUNT(ops)];
    for (size_t i = 0; i < CK_COUNT(ops); i++)
        tests[i] = (struct CMUnitTest){ops[i].name, run_one, NULL, NULL, &ops[i]};
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    activation = DC_F32;
    const int failed = cmocka_run_group_tests_name("F32", tests, open_device, close_device);
    activation = DC_BF16;
    return failed + cmocka_run_group_tests_name("BF16", tests, open_device, close_device);
}
