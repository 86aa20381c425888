/* tests/fuzz/fuzz_config.c -- any bytes as a config.json; what is taken must be possible, and be written and read again alike. */
#include <string.h>

#include "core/arena.h"
#include "core/json.h"
#include "core/log.h"
#include "model/arch.h"
#include "tests/fuzz/fuzz.h"

static void use(const dc_config *c)
{
    float frequencies[DC_ROPE_PAIRS], factors[DC_ROPE_PAIRS];
    dc_tensor_spec *specs = NULL;
    dc_config again;
    size_t n = 0;
    if (dc_config_check(c, "fuzz", NULL)) abort();
    dc_rope_frequencies(frequencies, c);
    dc_config_rope_freqs(factors, c);
    json_t *json = dc_config_to_json(c);
    if (!json || dc_config_from_json(&again, json, "again", NULL)) abort();
    if (again.family != c->family || again.D != c->D || again.K != c->K || again.tied != c->tied ||
        again.rope.type != c->rope.type || again.rms_eps != c->rms_eps)
        abort();
    json_decref(json);
    if (c->L > 64) return;
    if (dc_config_tensors(&specs, &n, c, NULL) || !n) abort();
    dc_free(specs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    dc_error err = {0};
    dc_config c;
    json_t *json = NULL;
    dc_log_set_level(DC_LOG_ERROR);
    if (dc_json_parse(&json, (const char *)data, n, "fuzz", NULL)) return 0;
    const int rc = dc_config_from_json(&c, json, "fuzz", &err);
    json_decref(json);
    if (rc != err.code || (rc && !err.message[0])) abort();
    if (!rc) use(&c);
    return 0;
}
