/* cli/cmd_logits.c -- all logits of one sequence, as a NumPy file: for comparing with other programs. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "cli/open.h"
#include "core/arena.h"
#include "core/file.h"
#include "train/score.h"

/* NumPy's format 1.0: magic, header length, a dict as text padded so that the data begin at a multiple of 64. */
static int write_npy(const char *path, const float *x, int64_t T, int64_t V, dc_error *err)
{
    char dict[192], head[256];
    int rc = DC_OK;
    dc_writer w;
    const int n = snprintf(dict, sizeof dict,
                           "{'descr': '<f4', 'fortran_order': False, 'shape': (%" PRId64 ", %" PRId64 "), }", T, V);
    const size_t total = (10 + (size_t)n + 1 + 63) / 64 * 64, body = total - 10;
    memcpy(head, "\x93NUMPY\x01\x00", 8);
    head[8] = (char)(body & 255), head[9] = (char)(body >> 8);
    memset(head + 10, ' ', body);
    memcpy(head + 10, dict, (size_t)n);
    head[total - 1] = '\n';
    rc = dc_writer_open(&w, path, err);
    if (rc != DC_OK) return rc;
    DC_TRY(dc_writer_put(&w, head, total, err));
    DC_TRY(dc_writer_put(&w, x, (size_t)(T * V) * sizeof *x, err));
    DC_TRY(dc_writer_commit(&w, err));
done:
    dc_writer_abandon(&w);
    return rc;
}

static int run(dc_cli *cli, dc_error *err)
{
    int rc = DC_OK;
    dc_opened o;
    dc_ids ids = {0};
    dc_scorer *scorer = NULL;
    float *logits = NULL;
    const char *in, *out;
    DC_TRY(dc_cli_need(&in, cli, "--ids", err));
    DC_TRY(dc_cli_need(&out, cli, "--out", err));
    DC_TRY(dc_opened_model(&o, cli, 0, err));
    rc = dc_read_ids(&ids, in, err);
    const int64_t T = (int64_t)ids.n, V = o.model->config.V;
    if (rc == DC_OK) rc = dc_scorer_new(&scorer, o.model, NULL, o.adapter, T, err);
    if (rc == DC_OK) {
        logits = dc_malloc((size_t)(T * V) * sizeof *logits);
        if (!logits) rc = dc_fail_memory(err, (size_t)(T * V) * sizeof *logits, "logits");
    }
    if (rc == DC_OK) rc = dc_score_logits(scorer, logits, ids.data, T, err);
    if (rc == DC_OK) rc = write_npy(out, logits, T, V, err);
    if (rc == DC_OK && cli->json) printf("{\"out\": \"%s\", \"shape\": [%" PRId64 ", %" PRId64 "]}\n", out, T, V);
    dc_scorer_free(scorer);
    dc_opened_release(&o);
done:
    dc_free(logits);
    dc_ids_release(&ids);
    return rc;
}

static const dc_flag flags[] = {{"--model", "M", "an HF directory or a .gguf"},
                                {"--adapter", "A", "a PEFT directory"},
                                {"--ids", "F.json", "the sequence: a JSON list of token ids"},
                                {"--out", "F.npy", "float32 [T, V]"},
                                DC_FLAG_DEVICE,
                                {NULL, NULL, NULL}};

const dc_command dc_cmd_logits = {.name = "logits",
                                  .group = "look",
                                  .summary = "all logits of one sequence, as a NumPy file",
                                  .takes = DC_TAKES_NONE,
                                  .flags = flags,
                                  .examples = "  decant logits --model model.gguf --ids ids.json --out logits.npy\n",
                                  .run = run};
