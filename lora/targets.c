/* lora/targets.c -- PEFT's rules of which module is adapted, and with what rank (src/peft/tuners/tuners_utils.py). */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/str.h"
#include "lora/adapter_private.h"

void dc_lora_module(char *room, size_t n, const dc_linear *linear)
{
    snprintf(room, n, "%s", linear->w->spec.hf);
    char *end = strstr(room, ".weight");
    if (end) *end = 0;
}

/* 1 when the whole of `text` matches, 0 when not, -1 after an error. */
static int regex_matches(const char *pattern, const char *text, const char *key, dc_error *err)
{
    int code, found;
    PCRE2_SIZE at;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_UTF, &code,
                                   &at, NULL);
    if (!re) {
        PCRE2_UCHAR why[128] = {0};
        pcre2_get_error_message(code, why, sizeof why);
        dc_fail(err, DC_EUSAGE, "lora.%s: '%s' is no regular expression: %s at character %zu", key, pattern, (const char *)why, at);
        return -1;
    }
    pcre2_match_data *match = pcre2_match_data_create_from_pattern(re, NULL);
    if (!match) {
        pcre2_code_free(re);
        dc_fail_memory(err, 0, "a regular expression");
        return -1;
    }
    found = pcre2_match(re, (PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, 0, 0, match, NULL) >= 0;
    pcre2_match_data_free(match);
    pcre2_code_free(re);
    return found;
}

static int is_plain(const char *name)
{
    return name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")] == 0;
}

/* The module is the name, or ends in ".name". */
static int ends_in(const char *module, const char *name)
{
    const size_t n = strlen(module), k = strlen(name);
    return k <= n && !strcmp(module + n - k, name) && (k == n || module[n - k - 1] == '.');
}

int dc_lora_matches(const char *const *names, size_t n, const char *module, dc_error *err)
{
    if (n == 1 && !is_plain(names[0])) return regex_matches(names[0], module, "target_modules", err);
    for (size_t i = 0; i < n; i++)
        if (ends_in(module, names[i])) return 1;
    return 0;
}

/* The value of the first pattern whose key matches the module as (.*\.)?(key)$, else the fallback. */
static int pattern_value(double *out, const dc_pattern *patterns, size_t n, double fallback, const char *module, const char *key,
                         dc_error *err)
{
    *out = fallback;
    for (size_t i = 0; i < n; i++) {
        dc_str re = {0};
        dc_str_putf(&re, "(.*\\.)?(%s)", patterns[i].key);
        const int found = re.failed ? -1 : regex_matches(dc_str_text(&re), module, key, err);
        if (re.failed) dc_fail_memory(err, 0, "a pattern");
        dc_str_release(&re);
        if (found < 0) return err ? (int)err->code : DC_EUSAGE;
        if (found) {
            *out = patterns[i].value;
            return DC_OK;
        }
    }
    return DC_OK;
}

static int layer_wanted(const dc_lora_config *c, int64_t layer)
{
    if (!c->layers_to_transform) return 1;
    for (size_t i = 0; i < c->n_layers; i++)
        if (c->layers_to_transform[i] == layer) return 1;
    return 0;
}

/* Every name of the list must mean something in this model. */
static int check_names(const dc_model *m, const dc_lora_config *c, int all, dc_error *err)
{
    if (all || (c->n_targets == 1 && !is_plain(c->target_modules[0]))) return DC_OK;
    for (size_t k = 0; k < c->n_targets; k++) {
        int used = 0;
        char module[128];
        for (size_t i = 0; i < dc_model_n_linears(m) && !used; i++) {
            dc_lora_module(module, sizeof module, dc_model_linear_at(m, i));
            used = ends_in(module, c->target_modules[k]);
        }
        if (!used)
            return dc_fail(err, DC_EUNKNOWN,
                           "lora.target_modules: '%s' names no linear of this %s model; it has q_proj, k_proj, v_proj, o_proj, gate_proj, "
                           "up_proj and down_proj in each layer ('all-linear' means all of them)",
                           c->target_modules[k], dc_family_hf_type(m->config.family));
    }
    return DC_OK;
}

int dc_lora_find_targets(dc_target *targets, const dc_model *m, const dc_lora_config *c, dc_error *err)
{
    const int all = c->n_targets == 1 && !strcmp(c->target_modules[0], "all-linear");
    size_t found = 0;
    int rc = check_names(m, c, all, err);
    for (size_t i = 0; rc == DC_OK && i < dc_model_n_linears(m); i++) {
        const dc_linear *linear = dc_model_linear_at(m, i);
        char module[128];
        double r = 0, alpha = 0;
        dc_lora_module(module, sizeof module, linear);
        const int in = all ? 1 : dc_lora_matches(c->target_modules, c->n_targets, module, err);
        const int out = c->n_exclude ? dc_lora_matches(c->exclude_modules, c->n_exclude, module, err) : 0;
        if (in < 0 || out < 0) return DC_EUSAGE;
        if (!in || out || !layer_wanted(c, linear->w->spec.layer)) continue;
        rc = pattern_value(&r, c->rank_pattern, c->n_rank_pattern, (double)c->r, module, "rank_pattern", err);
        if (rc == DC_OK) rc = pattern_value(&alpha, c->alpha_pattern, c->n_alpha_pattern, c->lora_alpha, module, "alpha_pattern", err);
        if (rc == DC_OK && (r < 1 || (double)(int64_t)r != r))
            rc = dc_fail(err, DC_EUSAGE, "the rank of %s must be a whole number from 1, not %g", module, r);
        targets[i] = (dc_target){.r = (int64_t)r, .alpha = alpha};
        found++;
    }
    if (rc == DC_OK && !found)
        rc = dc_fail(err, DC_EUSAGE, "lora: no linear is left to adapt (target_modules, exclude_modules and layers_to_transform together)");
    return rc;
}
