/* cli/inspect_files.c -- small files: JSON, recipes, NumPy arrays. */
#include <stdlib.h>
#include <string.h>

#include "cli/inspect.h"
#include "core/file.h"
#include "core/json.h"
#include "core/recipe.h"

int dc_inspect_json(dc_inspect *v, dc_error *err)
{
    json_t *value = NULL;
    const int rc = dc_json_load(&value, v->path, err);
    if (rc != DC_OK) return rc;
    dc_json_dump(&v->text, value, 2);
    dc_str_putc(&v->text, '\n');
    json_object_set_new(v->json, "kind", json_string("json"));
    json_object_set_new(v->json, "value", value);
    return DC_OK;
}

/* The recipe with every default filled in, so that one sees what would be run. */
int dc_inspect_recipe(dc_inspect *v, dc_error *err)
{
    dc_recipe *recipe = NULL;
    int rc = dc_recipe_load(&recipe, v->path, NULL, 0, err);
    if (rc != DC_OK) return rc;
    json_t *value = dc_recipe_json(recipe);
    dc_recipe_free(recipe);
    if (!value) return dc_fail_memory(err, 0, "a recipe");
    dc_json_dump(&v->text, value, 2);
    dc_str_putc(&v->text, '\n');
    json_object_set_new(v->json, "kind", json_string("recipe"));
    json_object_set_new(v->json, "value", value);
    return DC_OK;
}

/* The dict of a .npy file is Python text: shown as it stands. */
int dc_inspect_npy(dc_inspect *v, dc_error *err)
{
    dc_map map;
    const int rc = dc_map_open(&map, v->path, err);
    if (rc != DC_OK) return rc;
    const size_t size = (size_t)map.size, start = size > 6 && map.data[6] >= 2 ? 12 : 10;
    size_t n = 0;
    if (size >= start) n = (size_t)map.data[8] | (size_t)map.data[9] << 8;
    if (size >= start && start == 12) n |= (size_t)map.data[10] << 16 | (size_t)map.data[11] << 24;
    if (size < start || n > size - start) {
        dc_map_close(&map);
        return dc_fail(err, DC_EFORMAT, "%s: the header of a NumPy array is cut short", v->path);
    }
    const char *dict = (const char *)map.data + start;
    while (n && (dict[n - 1] == ' ' || dict[n - 1] == '\n')) n--;
    dc_inspect_fact(v, "NumPy array", "kind", json_string("npy"), "%s", v->path);
    dc_str_puts(&v->text, "header        ");
    dc_inspect_text(&v->text, dict, n, 400);
    dc_str_putc(&v->text, '\n');
    json_object_set_new(v->json, "header", json_stringn(dict, n));
    dc_map_close(&map);
    return DC_OK;
}
