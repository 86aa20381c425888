/* tests/fuzz/fuzz_recipe.c -- any text as a recipe, behind a 0 byte as an override. What is taken must resolve to JSON that is taken too, says
 * the same, and lets a run go on. */
#include <string.h>

#include "core/recipe.h"
#include "tests/fuzz/fuzz.h"

static void check(const dc_recipe *r)
{
    dc_recipe *again = NULL, *copy = NULL;
    json_t *json = dc_recipe_json(r);
    char *text = json_dumps(json, 0);
    if (!text || dc_recipe_parse(&again, text, "again", NULL, 0, NULL)) abort();
    json_t *second = dc_recipe_json(again);
    if (!json_equal(json, second) || dc_recipe_resumable(r, "pstTme", second, NULL)) abort();
    if (dc_recipe_copy(&copy, r, NULL)) abort();
    for (const char *stage = "pstTme"; *stage; stage++) {
        const dc_hash a = dc_recipe_hash(r, *stage), b = dc_recipe_hash(again, *stage),
                      c = dc_recipe_hash(copy, *stage);
        if (!dc_hash_equal(&a, &b) || !dc_hash_equal(&a, &c)) abort();
    }
    free(text);
    json_decref(json);
    json_decref(second);
    dc_recipe_free(again);
    dc_recipe_free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    dc_error err = {0};
    dc_recipe *r = NULL;
    char *text = malloc(n + 2);
    if (!text) abort();
    if (n) memcpy(text, data, n);
    text[n] = text[n + 1] = 0;
    const size_t first = strlen(text);
    const char *override = text + first + 1;
    const int rc = dc_recipe_parse(&r, text, "fuzz.yaml", &override, first < n, &err);
    if (rc != err.code || !rc != !!r) abort();
    if (rc && !strstr(err.message, "nothing was started.")) abort();
    if (!rc) check(r);
    dc_recipe_free(r);
    free(text);
    return 0;
}
