/* cli/cmd_merge.c -- an adapter into its base, as an HF directory: of a recipe's run, or of two paths. */
#include <stdio.h>
#include <string.h>

#include "cli/direct.h"
#include "cli/hf_dir.h"
#include "cli/open.h"
#include "core/arena.h"
#include "core/file.h"
#include "core/log.h"

static int type_of(dc_dtype *out, const dc_cli *cli, dc_error *err)
{
    const char *name = dc_cli_get(cli, "--dtype");
    *out = DC_DTYPE_NONE; /* the base's own; F32 for a quantized one */
    if (!name) return DC_OK;
    *out = dc_dtype_by_name(name);
    if (*out == DC_F32 || *out == DC_F16 || *out == DC_BF16) return DC_OK;
    return dc_fail(err, DC_EUSAGE, "decant merge: --dtype must be f32, bf16 or f16, not '%s'", name);
}

static int save(const dc_opened *o, const char *out, dc_dtype type, dc_error *err)
{
    int rc = DC_OK;
    const int64_t bytes = dc_model_parameters(o->model) * (type == DC_F16 || type == DC_BF16 ? 2 : 4);
    DC_TRY(dc_disk_check(out, bytes, "the merged model", err));
    DC_TRY(dc_lora_prepare_merge(o->lora, err));
    DC_TRY(dc_hf_save(out, o->model, o->tokenizer, type, dc_lora_merged_rows, o->lora, err));
done:
    return rc;
}

/* --out without slashes at its end, in *out; the caller's. */
static int target(char **out, const dc_cli *cli, dc_error *err)
{
    const char *given;
    const int rc = dc_cli_need(&given, cli, "--out", err);
    if (rc != DC_OK) return rc;
    *out = dc_strdup(given);
    if (!*out) return dc_fail_memory(err, strlen(given), "a path");
    for (size_t n = strlen(*out); n > 1 && (*out)[n - 1] == '/'; n--) (*out)[n - 1] = 0;
    return dc_direct_target(cli, *out, err);
}

static int run(dc_cli *cli, dc_error *err)
{
    int rc = DC_OK;
    dc_opened o = {.adapter = -1};
    dc_dtype type;
    const char *adapter;
    char *out = NULL;
    if (cli->recipe) return dc_direct_stage(cli, dc_stage_merge, err);
    DC_TRY(dc_direct_check(cli, err));
    DC_TRY(dc_cli_need(&adapter, cli, "--adapter", err));
    DC_TRY(type_of(&type, cli, err));
    DC_TRY(target(&out, cli, err));
    DC_TRY(dc_opened_model(&o, cli, 1, err));
    DC_TRY(save(&o, out, type, err));
    if (cli->json)
        DC_TRY(dc_print_json(
            json_pack("{s:s, s:I}", "out", out, "parameters", (json_int_t)dc_model_parameters(o.model)), err));
    else dc_log(DC_LOG_INFO, "merge     done    %s · %s", out, dc_lora_describe(o.lora));
done:
    dc_free(out);
    dc_opened_release(&o);
    return rc;
}

static const dc_flag flags[] = {{"--model", "M", "the base: an HF directory or a .gguf"},
                                {"--adapter", "A", "a PEFT directory"},
                                {"--out", "DIR", "the HF directory to write"},
                                {"--dtype", "T", "f32, bf16 or f16 (the base's own; f32 for a quantized base)"},
                                {"--force", NULL, "replace a model that is there"},
                                {"--restart", NULL, "with a recipe: merge again though nothing has changed"},
                                DC_FLAG_DEVICE,
                                {NULL, NULL, NULL}};

const dc_command dc_cmd_merge = {
    .name = "merge",
    .group = "deploy",
    .summary = "merges an adapter into its base, as an HF directory",
    .takes = DC_TAKES_RECIPE_MAYBE,
    .flags = flags,
    .sections = "student lora",
    .examples = "  decant merge my.yaml\n  decant merge --model base --adapter runs/my/train/adapter --out merged\n",
    .run = run};
