/* cli/inspect.h -- what decant inspect shows of each kind of file; private to cli/inspect_*.c and cmd_inspect.c.
 *
 * Every function fills both forms: text for a person, an object for a program. Names and texts that come from a file are shown without control
 * characters: a file must not drive the terminal. */
#ifndef DC_CLI_INSPECT_H
#define DC_CLI_INSPECT_H

#include <jansson.h>
#include <stdint.h>

#include "core/error.h"
#include "core/str.h"
#include "data/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_inspect {
    const char *path;
    int64_t limit;           /* items shown of a list; 0: all; -1: as suits the kind */
    int color;               /* the text goes to a terminal */
    dc_tokenizer *tokenizer; /* of --model, or NULL */
    dc_str text;
    json_t *json; /* object */
} dc_inspect;

/* ---- for the inspectors ---- */
/* "name        value" into the text, and json[key] = value (taken). NULL value is a memory error that shows in the end. */
void dc_inspect_fact(dc_inspect *v, const char *name, const char *key, json_t *value, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 5, 6)))
#endif
    ;
/* Text of a file, at most `most` bytes of it (0: all), control characters as \n, \t, \x1b. */
void dc_inspect_text(dc_str *out, const char *text, size_t n, size_t most);
/* How many of n items to show, when the kind's own choice is `usual`. */
int64_t dc_inspect_count(const dc_inspect *v, int64_t n, int64_t usual);
/* "... 230 more; --limit 0 shows all" when shown < n. */
void dc_inspect_more(dc_inspect *v, int64_t shown, int64_t n, const char *what);

/* ---- kinds ---- */
int dc_inspect_gguf(dc_inspect *v, dc_error *err);
int dc_inspect_safetensors(dc_inspect *v, dc_error *err);
int dc_inspect_model(dc_inspect *v, dc_error *err);     /* an HF directory */
int dc_inspect_adapter(dc_inspect *v, dc_error *err);   /* a PEFT directory */
int dc_inspect_tokenizer(dc_inspect *v, dc_error *err); /* a folder or a tokenizer.json */
int dc_inspect_sets(dc_inspect *v, dc_error *err);      /* a folder of SET-00000.h5, or one such file */
int dc_inspect_rows(dc_inspect *v, dc_error *err);      /* data files */
int dc_inspect_checkpoint(dc_inspect *v, dc_error *err);
int dc_inspect_run(dc_inspect *v, dc_error *err);   /* an output_dir */
int dc_inspect_stage(dc_inspect *v, dc_error *err); /* one of its folders: summary and times */
int dc_inspect_metrics(dc_inspect *v, dc_error *err);
int dc_inspect_json(dc_inspect *v, dc_error *err); /* summaries, parity reports, configs */
int dc_inspect_recipe(dc_inspect *v, dc_error *err);
int dc_inspect_npy(dc_inspect *v, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
