/* core/schema_help.c -- the schema table as docs/recipe.md and as the help of one key or section. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/recipe_internal.h"

static const char *type_name(const dc_key *k)
{
    switch (k->type) {
    case DC_KEY_INT: return "integer";
    case DC_KEY_REAL: return "number";
    case DC_KEY_BOOL: return "true or false";
    case DC_KEY_STR: return k->choices ? "one of" : "text";
    case DC_KEY_STRS: return k->choices ? "list of" : k->low < k->high ? "list of integers" : "list of texts";
    case DC_KEY_MAP: return "section of numbers";
    default: return "list";
    }
}

/* ", 1 to 4096", ", at least 0", " error, cut, split", or nothing. */
static void put_bounds(dc_str *out, const dc_key *k)
{
    if (k->choices) {
        dc_str_putc(out, ' ');
        for (const char *at = k->choices; *at; at++) {
            if (*at == '|') dc_str_puts(out, ", ");
            else dc_str_putc(out, *at);
        }
    } else if (k->low < k->high && isinf(k->high)) {
        dc_str_putf(out, ", at least %.15g", k->low);
    } else if (k->low < k->high) {
        dc_str_putf(out, ", %.15g to %.15g", k->low, k->high);
    }
}

static int is_teacher_train(const char *section) { return !strncmp(section, "teacher.train.", 14); }

/* The other names of the key `name` in the section `prefix`: ", also rank, lora_r". */
static void put_aliases(dc_str *out, const char *prefix, const char *name)
{
    int n = 0;
    if (is_teacher_train(prefix)) prefix += 8;
    for (const dc_key_alias *a = dc_schema_aliases(); a->section; a++)
        if (!strcmp(a->section, prefix) && !strcmp(a->key, name))
            dc_str_putf(out, "%s%s", n++ ? ", " : "; also ", a->alias);
}

/* The name of a key in its section, or NULL when it stands in another one. */
static const char *name_in(const dc_key *k, const char *prefix)
{
    const size_t n = strlen(prefix);
    if (strncmp(k->path, prefix, n) || strpbrk(k->path + n, ".[")) return NULL;
    return k->path + n;
}

static void put_row(dc_str *out, const dc_key *k, const char *prefix, const char *name)
{
    dc_str_putf(out, "| `%s` | %s", name, type_name(k));
    put_bounds(out, k);
    dc_str_putf(out, " | %s%s%s | %s", k->fallback ? "`" : "", k->fallback ? k->fallback : "", k->fallback ? "`" : "",
                k->help);
    put_aliases(out, prefix, name);
    dc_str_putf(out, " | %s |\n", k->change == DC_CHANGE_OK ? "yes" : "");
}

void dc_schema_markdown(dc_str *out)
{
    dc_str_puts(
        out,
        "# Recipes\n\n"
        "A recipe is one YAML (or JSON) file for the whole pipeline. This page is made from the table "
        "that checks recipes.\n"
        "A list in brackets, as `data.train[]`, takes any number of sections of these keys. Any key can "
        "be given on the\n"
        "command line as `section.key=value`; \"{recipe_dir}\" at the beginning of a path is the recipe's "
        "folder. The last\n"
        "column says which keys may change between a kill and the resume; any other binds only the stages that read "
        "it.\n");
    for (const dc_key_section *s = dc_schema_sections(); s->prefix; s++) {
        const int n = (int)strlen(s->prefix);
        dc_str_putf(out, "\n## %.*s\n\n%s.\n\n", n ? n - 1 : 3, n ? s->prefix : "Top", s->help);
        if (s->same_as) {
            dc_str_putf(out, "The keys are those of `%.*s`.\n", (int)strlen(s->same_as) - 1, s->same_as);
            continue;
        }
        dc_str_puts(out, "| key | takes | default | what it does | may change |\n|---|---|---|---|---|\n");
        for (const dc_key *k = dc_schema(); k->path; k++) {
            const char *name = name_in(k, s->prefix);
            if (name) put_row(out, k, s->prefix, name);
        }
    }
}

/* ---- the help of one place ---- */

static void put_key(dc_str *out, const dc_key *k)
{
    const char *dot = strrchr(k->path, '.'), *name = dot ? dot + 1 : k->path;
    char prefix[128];
    snprintf(prefix, sizeof prefix, "%.*s", (int)(name - k->path), k->path);
    dc_str_putf(out, "%s: %s", k->path, k->help);
    put_aliases(out, prefix, name);
    dc_str_putf(out, "\n  takes    %s", type_name(k));
    put_bounds(out, k);
    dc_str_putf(out, "\n  default  %s\n", k->fallback ? k->fallback : "none");
    dc_str_putf(out, "  change   %s\n",
                k->change == DC_CHANGE_OK
                    ? "may change between a kill and the resume"
                    : "a stage that reads it cannot go on with another value; --restart begins anew");
}

static void put_section(dc_str *out, const dc_key_section *s)
{
    const size_t n = strlen(s->prefix);
    if (n) dc_str_putf(out, "%.*s: ", (int)n - 1, s->prefix);
    dc_str_putf(out, "%s\n", s->help);
    for (const dc_key *k = dc_schema(); k->path; k++) {
        const char *name = name_in(k, s->prefix);
        if (!name) continue;
        dc_str_putf(out, "  %-28s %s", name, k->help);
        if (k->fallback) dc_str_putf(out, " [%s]", k->fallback);
        dc_str_putc(out, '\n');
    }
}

/* Is the section `prefix` ("lora.", "export[].") what a person calls `path` ("lora", "export", "export[]")? */
static int is_called(const char *prefix, const char *path)
{
    const size_t n = strlen(path);
    return n && !strncmp(prefix, path, n) && (!strcmp(prefix + n, ".") || !strcmp(prefix + n, "[]."));
}

static int unknown(const char *path, dc_error *err)
{
    const char *names[512];
    size_t n = 0;
    for (const dc_key *k = dc_schema(); k->path && n < 511; k++) names[n++] = k->path;
    names[n] = NULL;
    const char *near = dc_nearest(path, names);
    for (const dc_key *k = dc_schema(); k->path && !near; k++) {
        const char *dot = strrchr(k->path, '.');
        if (dot && !strcmp(dot + 1, path)) near = k->path;
    }
    return dc_fail(err, DC_EUNKNOWN, "a recipe has no key or section '%.100s'%s%s%s", path,
                   near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

int dc_schema_help(dc_str *out, const char *path, dc_error *err)
{
    int found = 0;
    const dc_key *k = dc_schema_find(path);
    if (k) put_key(out, k), found = 1;
    for (const dc_key_section *s = dc_schema_sections(); s->prefix; s++)
        if (is_called(s->prefix, path) || (!*path && !*s->prefix)) {
            put_section(out, s);
            found = 1;
        }
    return found ? DC_OK : unknown(path, err);
}
