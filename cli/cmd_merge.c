/* cli/cmd_merge.c -- an adapter into its base, as an HF directory: of a recipe's run, or of two paths. */
#include <stdio.h>
#include <string.h>

#include "cli/direct.h"
#include "cli/open.h"
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

/* The directory appears whole: written beside its place, then renamed. */
static int save(const dc_opened *o, const char *out, dc_dtype type, dc_error *err)
{
    int rc = DC_OK;
    dc_str staging = {0};
    size_t n = strlen(out);
    while (n > 1 && out[n - 1] == '/') n--;
    dc_str_append(&staging, out, n);
    dc_str_puts(&staging, ".tmp");
    if (staging.failed) return dc_fail_memory(err, n, "a path");
    DC_TRY(dc_disk_check(out, dc_model_parameters(o->model) * (type == DC_F16 || type == DC_BF16 ? 2 : 4),
                         "the merged model", err));
    DC_TRY(dc_lora_prepare_merge(o->lora, err));
    DC_TRY(dc_remove_tree(staging.data, err));
    DC_TRY(dc_model_save(o->model, staging.data, type, 0, dc_lora_merged_rows, o->lora, err));
    DC_TRY(dc_hf_finish(staging.data, o->model, o->tokenizer, err));
    DC_TRY(dc_remove_tree(out, err));
    DC_TRY(dc_dir_publish(staging.data, out, err));
done:
    if (rc != DC_OK) dc_remove_tree(dc_str_text(&staging), NULL);
    dc_str_release(&staging);
    return rc;
}

static int run(dc_cli *cli, dc_error *err)
{
    int rc = DC_OK;
    dc_opened o = {.adapter = -1};
    dc_dtype type;
    const char *adapter, *out;
    if (cli->recipe) return dc_direct_stage(cli, dc_stage_merge, err);
    DC_TRY(dc_direct_check(cli, err));
    DC_TRY(dc_cli_need(&adapter, cli, "--adapter", err));
    DC_TRY(dc_cli_need(&out, cli, "--out", err));
    DC_TRY(type_of(&type, cli, err));
    DC_TRY(dc_direct_target(cli, out, err));
    DC_TRY(dc_opened_model(&o, cli, 1, err));
    DC_TRY(save(&o, out, type, err));
    if (cli->json)
        DC_TRY(dc_print_json(
            json_pack("{s:s, s:I}", "out", out, "parameters", (json_int_t)dc_model_parameters(o.model)), err));
    else dc_log(DC_LOG_INFO, "merge     done    %s · %s", out, dc_lora_describe(o.lora));
done:
    dc_opened_release(&o);
    return rc;
}

static const dc_flag flags[] = {{"--model", "M", "the base: an HF directory or a .gguf"},
                                {"--adapter", "A", "a PEFT directory"},
                                {"--out", "DIR", "the HF directory to write"},
                                {"--dtype", "T", "f32, bf16 or f16 (the base's own; f32 for a quantized base)"},
                                {"--force", NULL, "replace a model that is there"},
                                {"--restart", NULL, "with a recipe: merge again though nothing has changed"},
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
