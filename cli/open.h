/* cli/open.h -- the model that flags name: --model, --adapter and, for some commands, --device. */
#ifndef DC_CLI_OPEN_H
#define DC_CLI_OPEN_H

#include <jansson.h>

#include "cli/command.h"
#include "data/tokenizer.h"
#include "lora/adapter.h"
#include "model/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The flag of commands that open a device outside a recipe; all that call dc_opened_model have it. */
#define DC_FLAG_DEVICE \
    { \
        "--device", "NAME", \
            "where to compute, as the recipe key `device`: auto (the default), cpu, or a GPU by its name" \
    }

/* The device that --device names. */
int dc_opened_device(dc_dev **out, const dc_cli *cli, dc_error *err);

typedef struct dc_opened {
    dc_dev *dev;
    dc_model *model;
    dc_lora *lora;           /* NULL without --adapter; slot 0 */
    int adapter;             /* for runs: 0, or -1 */
    dc_tokenizer *tokenizer; /* when asked for */
} dc_opened;

int dc_opened_model(dc_opened *o, const dc_cli *cli, int with_tokenizer, dc_error *err);
void dc_opened_release(dc_opened *o); /* twice is safe */

/* A JSON list of token ids, appended to the caller's dc_ids. */
int dc_take_ids(dc_ids *out, const json_t *list, dc_error *err);
/* The same from a file, which holds a list that is not empty, or {"ids": LIST}. */
int dc_read_ids(dc_ids *out, const char *path, dc_error *err);
/* One JSON value on stdout, with a newline; takes the reference. */
int dc_print_json(json_t *value, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
