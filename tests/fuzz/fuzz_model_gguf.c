/* tests/fuzz/fuzz_model_gguf.c -- any bytes as a GGUF model: opened, every weight read, or refused with a message. */
#include <string.h>

#include "core/arena.h"
#include "core/log.h"
#include "model/model.h"
#include "tests/fuzz/fuzz.h"

static volatile float sink;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static dc_dev *dev;
    dc_error err = {0};
    dc_model *m = NULL;
    if (!dev) {
        dc_dev_options o = dc_dev_defaults();
        o.name = "cpu", o.backend = DC_GEMM_REF;
        dc_log_set_level(DC_LOG_ERROR);
        if (dc_dev_open(&dev, &o, &err)) abort();
    }
    const int rc = dc_model_open(&m, dev, fuzz_file(data, n), NULL, &err);
    if (rc != err.code || !rc != !!m || (rc && !err.message[0])) abort();
    if (rc) return 0;
    for (size_t i = 0; i < m->n_weights; i++) {
        const dc_tensor_spec *s = &m->weights[i].spec;
        const int64_t columns = s->n_dims == 2 ? s->shape[1] : 1;
        float *row = dc_malloc((size_t)columns * sizeof *row);
        if (!row) abort();
        dc_weight_rows(m, &m->weights[i], row, s->shape[0] - 1, 1);
        sink += row[columns - 1];
        dc_free(row);
    }
    dc_model_free(m);
    return 0;
}
