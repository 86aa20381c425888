/* tests/kernels/test_ops.c -- every op against its oracle. The list comes from DC_OPS: an op without a test does
 * not link. */
#include "kit.h"

int main(void)
{
    const struct CMUnitTest tests[] = {
#define REGISTERED(name) cmocka_unit_test_setup(test_##name, kit_reset),
        DC_OPS(REGISTERED)
#undef REGISTERED
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
