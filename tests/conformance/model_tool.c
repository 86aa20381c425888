/* tests/conformance/model_tool.c -- what decant makes of a model file, for a judge to compare.
 *
 *   model_tool floats MODEL          stdout: for each weight "HF-NAME GGUF-NAME ROWS COLUMNS PERMUTED-HEADS\n" and its floats, HF order
 *   model_tool frequencies MODEL     stdout: the rotary frequencies, floats
 *   model_tool config MODEL          stdout: config.json as decant would write it
 *   model_tool save MODEL DIR TYPE SHARD-BYTES */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/json.h"
#include "model/model.h"

enum { CHUNK = 1 << 20 };

static int put_weight(const dc_model *m, const dc_weight *w, float *buffer)
{
    const dc_tensor_spec *s = &w->spec;
    const int64_t columns = s->n_dims == 2 ? s->shape[1] : 1, chunk = CHUNK / columns;
    printf("%s %s %lld %lld %lld\n", s->hf, s->gguf, (long long)s->shape[0], (long long)columns,
           (long long)s->permute_heads);
    for (int64_t row = 0; row < s->shape[0]; row += chunk) {
        const int64_t n = s->shape[0] - row < chunk ? s->shape[0] - row : chunk;
        dc_weight_rows(m, w, buffer, row, n);
        if (fwrite(buffer, sizeof *buffer, (size_t)(n * columns), stdout) != (size_t)(n * columns)) return 1;
    }
    return 0;
}

static int put_floats(const dc_model *m)
{
    float *buffer = dc_malloc(CHUNK * sizeof *buffer);
    int failed = !buffer;
    for (size_t i = 0; i < m->n_weights && !failed; i++) failed = put_weight(m, &m->weights[i], buffer);
    dc_free(buffer);
    return failed;
}

static int put_config(const dc_model *m)
{
    dc_str text = {0};
    json_t *config = dc_config_to_json(&m->config);
    dc_json_dump(&text, config, 2);
    puts(dc_str_text(&text));
    json_decref(config);
    dc_str_release(&text);
    return 0;
}

static int run(int argc, char **argv, dc_error *err)
{
    dc_dev_options o = dc_dev_defaults();
    dc_dev *dev = NULL;
    dc_model *m = NULL;
    int rc = DC_OK;
    o.name = "cpu";
    if (argc < 3) return dc_fail(err, DC_EUSAGE, "usage: model_tool floats|frequencies|config|save MODEL ...");
    DC_TRY(dc_dev_open(&dev, &o, err));
    DC_TRY(dc_model_open(&m, dev, argv[2], NULL, err));
    if (!strcmp(argv[1], "floats")) rc = put_floats(m);
    else if (!strcmp(argv[1], "frequencies"))
        rc = fwrite(m->inv_freq, sizeof(float), (size_t)(m->config.n_rot / 2), stdout) != (size_t)(m->config.n_rot / 2);
    else if (!strcmp(argv[1], "config")) rc = put_config(m);
    else if (argc == 6) rc = dc_model_save(m, argv[3], dc_dtype_by_name(argv[4]), atoll(argv[5]), NULL, NULL, err);
done:
    dc_model_free(m);
    dc_dev_close(dev);
    return rc;
}

int main(int argc, char **argv)
{
    dc_error err = {0};
    if (run(argc, argv, &err) == DC_OK) return 0;
    fprintf(stderr, "%s\n", err.message);
    return 1;
}
