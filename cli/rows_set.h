/* cli/rows_set.h -- rows of a file as a set with a loader, for measuring: what decant prepare would make of them, in a temporary folder.
 *
 * Rows of every schema of data/rows.h with its defaults (only answers are targets in conversations and completions; texts get BOS and EOS as the tokenizer
 * says); those longer than max_length are split, so that every target counts. */
#ifndef DC_CLI_ROWS_SET_H
#define DC_CLI_ROWS_SET_H

#include <stdint.h>

#include "core/error.h"
#include "data/order.h"
#include "data/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_rows_set {
    char *dir; /* owned; removed by dc_rows_set_close */
    dc_set *set;
    dc_loader *loader; /* in the file's order, one document a sequence or several packed */
    int64_t rows, rejected, documents, tokens, trained;
    char first_reject[600];
} dc_rows_set;

typedef struct dc_rows_set_options {
    const char *schema; /* by name, or NULL: guessed for each row */
    int64_t max_length;
    int64_t max_tokens; /* reading ends when there are so many; 0: all */
} dc_rows_set_options;

/* `path` as data/reader.h takes it. No usable row is DC_EFORMAT with the first reason. The folder is made under TMPDIR, else /tmp. */
int dc_rows_set_open(dc_rows_set *out, const char *path, const dc_tokenizer *t, const dc_rows_set_options *o,
                     dc_error *err);
/* The same over one text in memory. */
int dc_rows_set_text(dc_rows_set *out, const char *text, const dc_tokenizer *t, const dc_rows_set_options *o,
                     dc_error *err);
void dc_rows_set_close(dc_rows_set *s); /* twice is safe */

#ifdef __cplusplus
}
#endif
#endif
