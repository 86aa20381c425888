/* core/recipe.h -- a recipe: a YAML (or JSON) file checked against one table of keys.
 *
 * The table (core/schema.c) defines every key with type, default, range, choices and one line of help; parser, `--help`, plan and
 * docs/recipe.md come from it. All errors of a recipe are gathered, each as "FILE:LINE:COLUMN: ...", with the nearest key
 * for an unknown one. YAML anchors, tags and multiple documents are refused; 1e-3 and 1e-08 are numbers. null, ~ and nothing leave a key
 * absent. Names of other toolkits (lora_rank, cutoff_len) are taken for the key they mean. */
#ifndef DC_CORE_RECIPE_H
#define DC_CORE_RECIPE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/hash.h"
#include "core/str.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum dc_key_type {
    DC_KEY_INT,
    DC_KEY_REAL,
    DC_KEY_BOOL,
    DC_KEY_STR,
    DC_KEY_STRS, /* a list of strings; a single string is a list of one. With a range: each one is an integer */
    DC_KEY_MAP,  /* string -> number, as rank_pattern */
    DC_KEY_ITEMS /* a list of sections (data.train, export): sub-keys are in the table as "data.train[].path". A text instead of a section
                     is the value of its first sub-key, which every item must have; one item alone is a list of one. */
} dc_key_type;

typedef enum dc_key_change {
    DC_CHANGE_NO = 0, /* the key's stages cannot go on with another value: refused by name on resume */
    DC_CHANGE_OK      /* may change between kill and resume */
} dc_key_change;

typedef struct dc_key {
    const char *path; /* "lora.r", "data.train[].path" */
    dc_key_type type;
    const char *fallback; /* default as YAML text; NULL: absent unless given */
    double low, high;     /* inclusive range of numbers; equal: no range */
    const char *choices;  /* "error|cut|split", or NULL; for STR also a regex-free "a|b" set */
    dc_key_change change;
    /* The stages whose output depends on the key: letters of "pstTme" (prepare, a teacher made from scratch, teach, Train, merge, export),
       "" none. */
    const char *stages;
    const char *help; /* one line */
} dc_key;

/* The table, ended by a NULL path, in the order of docs/recipe.md. */
const dc_key *dc_schema(void);
const dc_key *dc_schema_find(const char *path); /* index brackets in the path may hold a number */

typedef struct dc_recipe dc_recipe;

/* Reads `path` and applies `overrides` ("section.key=value", value in YAML syntax, may be NULL when n is 0; an override's place is
 * "command line: section.key"). "{recipe_dir}" at the beginning of a path-like value stands for the recipe's folder.
 * On failure err->message holds all errors, one a line, and "N errors, nothing was started.". */
int dc_recipe_load(dc_recipe **out, const char *path, const char *const *overrides, size_t n, dc_error *err);
/* The same from text; `name` stands for the file in messages. */
int dc_recipe_parse(dc_recipe **out, const char *text, const char *name, const char *const *overrides, size_t n,
                    dc_error *err);
void dc_recipe_free(dc_recipe *r);

/* Was the key or section given (by file or override)? */
int dc_recipe_has(const dc_recipe *r, const char *path);
/* Values, default filled in; asking for a key that is not in the table, or of another type, is our bug. Text is borrowed.
 * dc_recipe_str gives NULL for an absent key without default. Items: "data.train[2].path". */
int64_t dc_recipe_int(const dc_recipe *r, const char *path);
double dc_recipe_real(const dc_recipe *r, const char *path);
int dc_recipe_bool(const dc_recipe *r, const char *path);
const char *dc_recipe_str(const dc_recipe *r, const char *path);
size_t dc_recipe_count(const dc_recipe *r, const char *path); /* of STRS, ITEMS, MAP */
const char *dc_recipe_str_at(const dc_recipe *r, const char *path, size_t i);
double dc_recipe_map_at(const dc_recipe *r, const char *path, size_t i, const char **key);
/* "FILE:LINE:COLUMN" of a key, for errors found later (a model that is not there); the file's name when the key was not given. */
const char *dc_recipe_place(const dc_recipe *r, const char *path);

/* Sets a value as an override would (prune_layers control runs, tests). */
int dc_recipe_set(dc_recipe *r, const char *path, const char *value, dc_error *err);
/* A deep copy. */
int dc_recipe_copy(dc_recipe **out, const dc_recipe *r, dc_error *err);

/* The resolved recipe with all defaults, as JSON in table order (new reference; NULL when memory is out). Keys without value are left out.
 * "{recipe_dir}" stands as written, here and in hashes, so that neither depends on the folder a run is started from. */
json_t *dc_recipe_json(const dc_recipe *r);
/* Hash of all keys whose `stages` hold the letter: what a stage's output depends on, beside the files it reads. Empty hex: no memory. */
dc_hash dc_recipe_hash(const dc_recipe *r, char stage);
/* Compares with the JSON kept by an earlier run: names the first key with DC_CHANGE_NO and one of `stages` (letters) that differs
 * (DC_EMISMATCH), with both values, the place, and the two ways out (change it back; --restart). */
int dc_recipe_resumable(const dc_recipe *r, const char *stages, const json_t *before, dc_error *err);

/* Writes docs/recipe.md, or the help of one key or section (path) to out. */
void dc_schema_markdown(dc_str *out);
int dc_schema_help(dc_str *out, const char *path, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
