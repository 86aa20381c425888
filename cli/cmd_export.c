/* cli/cmd_export.c -- a model as a GGUF file, with proof that it says what the model said: of a recipe's run, or of paths. */
#include <stdio.h>
#include <string.h>

#include "cli/direct.h"
#include "cli/open.h"
#include "cli/rows_set.h"
#include "core/file.h"
#include "core/json.h"
#include "core/log.h"
#include "export/gguf_model.h"
#include "export/parity.h"

enum { PARITY_LENGTH = 512, PARITY_TOKENS = 2048 };

/* What parity is measured on when no data are given: prose, a dialogue, numbers, code, other scripts. */
static const char sample[] =
    "The lighthouse keeper climbed the stairs at dusk, as he had done for thirty years, and lit the lamp before the "
    "first ships came into "
    "sight. Below him the sea was grey and quiet. He wrote the date, the wind and the weather into his book, closed "
    "it, and poured "
    "himself a cup of tea. Nothing in the book told of the storm of that winter, because on that night there had been "
    "no time to write.\n\n"
    "\"How long does the crossing take?\" she asked.\n\"Four hours with a good wind,\" said the captain. \"With a bad "
    "one, you will learn "
    "to pray.\"\n\nWater boils at 100 degrees Celsius at sea level; at 3,000 metres it boils at about 90. A train that "
    "leaves at 8:15 and "
    "arrives at 11:45 has travelled for three hours and a half. The prime numbers below 30 are 2, 3, 5, 7, 11, 13, 17, "
    "19, 23 and 29, and "
    "12 * 12 = 144.\n\n"
    "def mean(values):\n    \"\"\"Average of a list of numbers.\"\"\"\n    if not values:\n        raise "
    "ValueError(\"no values\")\n"
    "    return sum(values) / len(values)\n\n"
    "#include <stdio.h>\n\nint main(void)\n{\n    for (int i = 0; i < 10; i++)\n        printf(\"%d squared is "
    "%d\\n\", i, i * i);\n"
    "    return 0;\n}\n\n"
    "{\"name\": \"Ada\", \"languages\": [\"English\", \"French\"], \"born\": 1815, \"active\": false}\n\n"
    "Dear Sir or Madam,\n\nthank you for your letter of 3 May. We are sorry that the parcel reached you damaged. A "
    "replacement was sent "
    "today, and you need not return the first one. Please find the invoice attached.\n\nYours faithfully,\nCustomer "
    "Service\n\n"
    "La biblioteca abre a las nueve de la ma\xc3\xb1"
    "ana y cierra a las ocho de la tarde. Die Stra\xc3\x9f"
    "e war nass, denn es hatte die "
    "ganze Nacht geregnet. Il pleuvait encore quand nous sommes arriv\xc3\xa9s \xc3\xa0 la gare.\n";

static int options_of(dc_export_options *o, const dc_cli *cli, const dc_opened *opened, dc_error *err)
{
    const char *type = dc_cli_get(cli, "--type");
    *o = (dc_export_options){.name = dc_cli_get(cli, "--name"),
                             .license = dc_cli_get(cli, "--license"),
                             .base_model = opened->lora ? dc_path_base(dc_cli_get(cli, "--model")) : NULL,
                             .rows = opened->lora ? dc_lora_merged_rows : NULL,
                             .rows_context = opened->lora};
    const int rc = dc_export_type(&o->type, type ? type : "q8_0", err);
    return rc == DC_OK && opened->lora ? dc_lora_prepare_merge(opened->lora, err) : rc;
}

/* Runs the file beside the model; F.parity.json keeps the figures. */
static int check_parity(dc_parity *parity, const dc_cli *cli, const dc_opened *o, const char *path, dc_error *err)
{
    int rc = DC_OK;
    const char *data = dc_cli_get(cli, "--parity-data");
    const dc_model_options defaults = dc_model_defaults();
    const dc_rows_set_options rows = {.max_length = PARITY_LENGTH, .max_tokens = PARITY_TOKENS};
    dc_model *file = NULL;
    dc_rows_set set = {0};
    json_t *json = NULL;
    dc_str out = {0};
    dc_str_putf(&out, "%.*s.parity.json", (int)(strlen(path) - strlen(".gguf")), path);
    if (data) DC_TRY(dc_rows_set_open(&set, data, o->tokenizer, &rows, err));
    else DC_TRY(dc_rows_set_text(&set, sample, o->tokenizer, &rows, err));
    DC_TRY(dc_model_open(&file, o->dev, path, &defaults, err));
    DC_TRY(dc_parity_measure(parity, o->model, o->adapter, file, -1, set.loader, PARITY_TOKENS, err));
    json = dc_parity_json(parity);
    if (!json) {
        rc = dc_fail_memory(err, 0, "the parity report");
        goto done;
    }
    json_object_set_new(json, "data", json_string(data ? dc_path_base(data) : "built-in text"));
    DC_TRY(dc_json_save(json, dc_str_text(&out), err));
done:
    json_decref(json);
    dc_str_release(&out);
    dc_rows_set_close(&set);
    dc_model_free(file);
    return rc;
}

static int tell(const dc_cli *cli, const char *path, const dc_export_options *o, const dc_export_result *r,
                const dc_parity *p, dc_error *err)
{
    char bytes[32], said[160] = "parity not checked";
    if (cli->json)
        return dc_print_json(json_pack("{s:s, s:s, s:I, s:I, s:I, s:f, s:o*}", "out", path, "type",
                                       dc_dtype_get(o->type)->name, "bytes", (json_int_t)r->bytes, "tensors",
                                       (json_int_t)r->tensors, "fallbacks", (json_int_t)r->fallbacks, "worst_error",
                                       r->worst_error, "parity", p ? dc_parity_json(p) : NULL),
                             err);
    dc_human_bytes(bytes, sizeof bytes, (double)r->bytes);
    if (p)
        snprintf(said, sizeof said, "KL %.5f · same top-1 %.2f %% · perplexity %.3f (model %.3f) on %lld tokens", p->kl,
                 100 * p->top1, p->ppl_file, p->ppl_reference, (long long)p->tokens);
    dc_log(DC_LOG_INFO, "export    done    %s · %s · %s", path, bytes, said);
    return DC_OK;
}

static int check_name(const char *path, dc_error *err)
{
    const size_t n = strlen(path);
    if (n > 5 && !strcmp(path + n - 5, ".gguf")) return DC_OK;
    return dc_fail(err, DC_EUSAGE, "decant export: --out must end in .gguf, not be '%s'", path);
}

static int run(dc_cli *cli, dc_error *err)
{
    int rc = DC_OK;
    dc_opened o = {.adapter = -1};
    dc_export_options options;
    dc_export_result result;
    dc_parity parity;
    const char *out;
    const int checked = !dc_cli_get(cli, "--no-parity");
    if (cli->recipe) return dc_direct_stage(cli, dc_stage_export, err);
    DC_TRY(dc_direct_check(cli, err));
    DC_TRY(dc_cli_need(&out, cli, "--out", err));
    DC_TRY(check_name(out, err));
    DC_TRY(dc_direct_target(cli, out, err));
    if (!checked && dc_cli_get(cli, "--parity-data")) {
        rc = dc_fail(err, DC_EUSAGE, "decant export: --no-parity and --parity-data do not go together");
        goto done;
    }
    DC_TRY(dc_opened_model(&o, cli, 1, err));
    DC_TRY(options_of(&options, cli, &o, err));
    DC_TRY(dc_export_gguf(out, o.model, o.tokenizer, &options, &result, err));
    if (checked) DC_TRY(check_parity(&parity, cli, &o, out, err));
    DC_TRY(tell(cli, out, &options, &result, checked ? &parity : NULL, err));
done:
    dc_opened_release(&o);
    return rc;
}

static const dc_flag flags[] = {{"--model", "M", "an HF directory or a .gguf"},
                                {"--adapter", "A", "a PEFT directory: it is merged on the way"},
                                {"--out", "F.gguf", "the file to write; F.parity.json appears beside it"},
                                {"--type", "T", "f32, f16, bf16, q8_0 or q4_0 (q8_0)"},
                                {"--name", "TEXT", "general.name (the file's name)"},
                                {"--license", "ID", "general.license, an SPDX id"},
                                {"--parity-data", "F", "rows to compare file and model on (a short built-in text)"},
                                {"--no-parity", NULL, "do not compare"},
                                {"--force", NULL, "replace a file that is there"},
                                {"--restart", NULL, "with a recipe: export again though nothing has changed"},
                                DC_FLAG_DEVICE,
                                {NULL, NULL, NULL}};

const dc_command dc_cmd_export = {.name = "export",
                                  .group = "deploy",
                                  .summary =
                                      "any model decant reads to a GGUF file, with a check that it says the same",
                                  .takes = DC_TAKES_RECIPE_MAYBE,
                                  .flags = flags,
                                  .sections = "export",
                                  .examples = "  decant export my.yaml\n  decant export --model merged --out "
                                              "small-Q8_0.gguf --type q8_0 --parity-data held_out.jsonl\n",
                                  .run = run};
