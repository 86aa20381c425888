/* core/recipe_internal.h -- what recipe*.c and schema*.c share; private to them. */
#ifndef DC_CORE_RECIPE_INTERNAL_H
#define DC_CORE_RECIPE_INTERNAL_H

#include "core/arena.h"
#include "core/recipe.h"

/* ---- schema.c ---- */

typedef struct dc_key_alias {
    const char *section, *alias, *key; /* "lora.", "lora_r", "r" */
} dc_key_alias;

typedef struct dc_key_section {
    const char *prefix; /* "data.train[]." */
    const char *help;
    const char *same_as; /* a section that explains the same keys, or NULL */
} dc_key_section;

const dc_key_alias *dc_schema_aliases(void);    /* ended by a NULL section */
const dc_key_section *dc_schema_sections(void); /* ended by a NULL prefix */
/* Is `path` ("student.init", "data.train[0]") the beginning of keys? */
int dc_schema_is_section(const char *path);
/* The key's own name for an alias in the section `prefix` ("lora."); `name` itself when it is none. */
const char *dc_schema_canonical(const char *prefix, const char *name);

/* ---- recipe_yaml.c ---- */

typedef enum dc_node_kind { DC_NODE_SCALAR, DC_NODE_LIST, DC_NODE_MAP } dc_node_kind;

/* A value as written. All memory is the arena's. */
typedef struct dc_node dc_node;
struct dc_node {
    dc_node_kind kind;
    int plain;         /* a scalar without quotes */
    const char *text;  /* of a scalar */
    const char *key;   /* of a map's child: canonical */
    const char *given; /* ... as written */
    dc_node *child, *last, *next;
    int key_line, key_column, line, column; /* from 1; 0: from the command line */
    const char *place;                      /* "FILE:LINE:COLUMN" of the value, or "command line: KEY" */
    const char *key_place;                  /* ... of its key */
};

/* *out is NULL for an empty document. `place`, unless NULL, is the place of every node and of errors ("command line: lora.r");
 * else places are NAME:LINE:COLUMN. */
int dc_node_parse(dc_node **out, dc_arena *arena, const char *text, size_t n, const char *name, const char *place,
                  dc_error *err);
/* A plain scalar; NULL when memory is out. */
dc_node *dc_node_scalar(dc_arena *arena, const char *text, const char *place);
void dc_node_append(dc_node *parent, dc_node *child);
/* The child of a map by canonical key, or NULL. */
dc_node *dc_node_get(const dc_node *map, const char *key);
/* Child i of a list; a single value counts as a list of one. NULL beyond the end. */
dc_node *dc_node_item(const dc_node *list, size_t i);
size_t dc_node_count(const dc_node *list);
/* Absent, or written as null, ~ or nothing. */
int dc_node_is_null(const dc_node *node);

/* ---- recipe_check.c ---- */

/* A value of the table, checked; given or default. */
typedef struct dc_value {
    const dc_key *key;
    const char *path;           /* with numbers in its brackets */
    const dc_node *node;        /* NULL: the default, or absent */
    int set;                    /* has a value */
    int64_t i;                  /* INT, BOOL */
    double d;                   /* REAL */
    size_t n;                   /* of STRS, MAP, ITEMS */
    const char *text;           /* STR; "{recipe_dir}" filled in */
    const char *raw;            /* ... as written */
    const char **texts, **raws; /* [n] of STRS; raws are MAP's keys */
    double *numbers;            /* [n] of MAP */
} dc_value;

struct dc_recipe {
    dc_arena arena;
    char *name;    /* for messages */
    char *dir;     /* that {recipe_dir} stands for */
    dc_node *root; /* a map */
    dc_value *values;
    size_t n_values, room_values;
};

/* Renames aliases below root (a map), then fills r->values from it. DC_EUSAGE with all that is wrong. */
int dc_recipe_check(dc_recipe *r, dc_error *err);
const dc_value *dc_recipe_value(const dc_recipe *r, const char *path); /* NULL when there is none */
#endif
