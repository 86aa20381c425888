/* lora/targets.c -- PEFT's rules of which module is adapted, and with what rank (src/peft/tuners/tuners_utils.py). */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/str.h"
#include "lora/adapter_private.h"

void dc_lora_module(char *room, size_t n, const dc_linear *linear)
{
    snprintf(room, n, "%s", linear->w->spec.hf);
    char *end = strstr(room, ".weight");
    if (end) *end = 0;
}

/* Does the whole of `text` match? */
static int regex_matches(int *found, const char *pattern, const char *text, const char *key, dc_error *err)
{
    int code;
    PCRE2_SIZE at;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                   PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_UTF, &code, &at, NULL);
    if (!re) {
        PCRE2_UCHAR why[128] = {0};
        pcre2_get_error_message(code, why, sizeof why);
        return dc_fail(err, DC_EUSAGE, "lora.%s: '%s' is no regular expression: %s at character %zu", key, pattern,
                       (const char *)why, at);
    }
    pcre2_match_data *match = pcre2_match_data_create_from_pattern(re, NULL);
    code = match ? pcre2_match(re, (PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, 0, 0, match, NULL) : PCRE2_ERROR_NOMEMORY;
    pcre2_match_data_free(match);
    pcre2_code_free(re);
    *found = code >= 0;
    if (code >= 0 || code == PCRE2_ERROR_NOMATCH) return DC_OK;
    if (code == PCRE2_ERROR_NOMEMORY) return dc_fail_memory(err, strlen(pattern), "a regular expression");
    return dc_fail(err, DC_EUSAGE, "lora.%s: '%s' takes too long to match against %s (PCRE2 error %d)", key, pattern,
                   text, code);
}

int dc_lora_is_plain(const char *name)
{
    return name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")] == 0;
}

/* The module is the name, or ends in ".name". */
static int ends_in(const char *module, const char *name)
{
    const size_t n = strlen(module), k = strlen(name);
    return k <= n && !strcmp(module + n - k, name) && (k == n || module[n - k - 1] == '.');
}

/* One name that is none is a regular expression. */
static int is_regex(const char *const *names, size_t n) { return n == 1 && !dc_lora_is_plain(names[0]); }

/* *found 1: the module ends in one of the names, or matches the regular expression; 2: it is one of the names itself; 0: neither. */
static int matches(int *found, const char *const *names, size_t n, const char *module, const char *key, dc_error *err)
{
    *found = 0;
    if (is_regex(names, n)) return regex_matches(found, names[0], module, key, err);
    for (size_t i = 0; i < n && *found < 2; i++)
        if (ends_in(module, names[i])) *found = strcmp(module, names[i]) ? 1 : 2;
    return DC_OK;
}

/* The value of the first pattern whose key matches the module as (.*\.)?(key)$, else the fallback. */
static int pattern_value(double *out, const dc_pattern *patterns, size_t n, double fallback, const char *module,
                         const char *key, dc_error *err)
{
    int found = 0;
    *out = fallback;
    for (size_t i = 0; i < n && !found; i++) {
        dc_str re = {0};
        dc_str_putf(&re, "(.*\\.)?(%s)", patterns[i].key);
        const int rc = re.failed ? dc_fail_memory(err, re.n, "a pattern")
                                 : regex_matches(&found, dc_str_text(&re), module, key, err);
        dc_str_release(&re);
        if (rc != DC_OK) return rc;
        if (found) *out = patterns[i].value;
    }
    return DC_OK;
}

static int layer_wanted(const dc_lora_config *c, int64_t layer)
{
    if (!c->n_layers) return 1; /* an empty list is none */
    for (size_t i = 0; i < c->n_layers; i++)
        if (c->layers_to_transform[i] == layer) return 1;
    return 0;
}

/* Every name of the list must mean something in this model. */
static int check_names(const dc_model *m, const dc_lora_config *c, int all, dc_error *err)
{
    const int regex = !all && is_regex(c->target_modules, c->n_targets);
    if (regex && c->n_layers)
        return dc_fail(
            err, DC_EUSAGE,
            "lora.layers_to_transform goes with names of modules, not with a regular expression (PEFT refuses it "
            "as well): let '%s' say which layers",
            c->target_modules[0]);
    if (all || regex) return DC_OK;
    for (size_t k = 0; k < c->n_targets; k++) {
        int used = 0;
        char module[128];
        for (size_t i = 0; i < dc_model_n_linears(m) && !used; i++) {
            dc_lora_module(module, sizeof module, dc_model_linear_at(m, i));
            used = ends_in(module, c->target_modules[k]);
        }
        if (!used)
            return dc_fail(err, DC_EUNKNOWN,
                           "lora.target_modules: '%s' names no linear of this %s model; it has q_proj, k_proj, v_proj, "
                           "o_proj, gate_proj, "
                           "up_proj and down_proj in each layer ('all-linear' means all of them)",
                           c->target_modules[k], dc_family_hf_type(m->config.family));
    }
    return DC_OK;
}

/* Rank and alpha of one module. */
static int choose(dc_target *out, const dc_lora_config *c, const dc_linear *linear, const char *module, dc_error *err)
{
    const int64_t width = linear->in < linear->out ? linear->in : linear->out;
    double r, alpha;
    int rc = pattern_value(&r, c->rank_pattern, c->n_rank_pattern, (double)c->r, module, "rank_pattern", err);
    if (rc == DC_OK)
        rc = pattern_value(&alpha, c->alpha_pattern, c->n_alpha_pattern, c->lora_alpha, module, "alpha_pattern", err);
    if (rc != DC_OK) return rc;
    if (!(r >= 1) || floor(r) < r)
        return dc_fail(err, DC_EUSAGE, "lora: the rank of %s must be a whole number from 1, not %g", module, r);
    if (r > (double)width)
        return dc_fail(err, DC_EUSAGE, "lora: rank %.0f of %s is above its width (%lld x %lld)", r, module,
                       (long long)linear->out, (long long)linear->in);
    *out = (dc_target){.r = (int64_t)r, .alpha = alpha};
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
        dc_lora_module(module, sizeof module, linear);
        int in = 1, out = 0;
        if (!all) rc = matches(&in, c->target_modules, c->n_targets, module, "target_modules", err);
        if (rc == DC_OK) rc = matches(&out, c->exclude_modules, c->n_exclude, module, "exclude_modules", err);
        if (rc != DC_OK) break;
        /* A module that is named whole is adapted in whatever layer it stands, as in PEFT. */
        if (!in || out || (in != 2 && !layer_wanted(c, linear->w->spec.layer))) continue;
        rc = choose(&targets[i], c, linear, module, err);
        found++;
    }
    if (rc == DC_OK && !found)
        rc = dc_fail(
            err, DC_EUSAGE,
            "lora: no linear is left to adapt (target_modules, exclude_modules and layers_to_transform together)");
    return rc;
}
