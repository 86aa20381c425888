/* cli/stage_export.c -- merge and export: the trained student as an HF directory, then as GGUF files with proof that they say the same. */
#include <stdio.h>
#include <string.h>

#include "cli/hf_dir.h"
#include "cli/session.h"
#include "cli/student.h"
#include "core/arena.h"
#include "core/file.h"
#include "core/json.h"
#include "core/log.h"
#include "export/gguf_model.h"
#include "export/parity.h"

enum { PARITY_TOKENS = 2048 };

/* The trained student: base and adapter (slot 0), or the model of a full training. */
typedef struct trained {
    dc_model *model;
    dc_lora *lora;
} trained;

static void trained_release(trained *k)
{
    dc_lora_free(k->lora);
    dc_model_free(k->model);
    *k = (trained){0};
}

static int trained_open(trained *k, const dc_session *s, dc_error *err)
{
    int rc = DC_OK;
    const dc_model_options o = dc_model_defaults();
    const int lora = dc_recipe_has(s->recipe, "lora");
    char *dir = dc_session_path(s, lora ? "train/adapter" : "train/model", err);
    if (!dir) return DC_ENOMEM;
    if (lora) {
        DC_TRY(dc_session_student(&k->model, s, 0, err));
        DC_TRY(dc_lora_open(&k->lora, k->model, 0, dir, 0, err));
        DC_TRY(dc_lora_prepare_merge(k->lora, err));
    } else {
        DC_TRY(dc_model_open(&k->model, s->dev, dir, &o, err));
    }
done:
    dc_free(dir);
    return rc;
}

static int key_of(dc_hash *out, const dc_session *s, char letter, const char *stage, const char *folder, dc_error *err)
{
    dc_hash before;
    const dc_hash keys = dc_recipe_hash(s->recipe, letter);
    const int rc = dc_stage_output(&before, s, stage, folder, err);
    if (rc != DC_OK) return rc;
    dc_hasher *h = dc_hasher_new();
    if (!h) return dc_fail_memory(err, 0, "a hash");
    dc_hasher_add_text(h, keys.hex);
    dc_hasher_add_text(h, before.hex);
    *out = dc_hasher_get(h);
    dc_hasher_free(h);
    return DC_OK;
}

int dc_stage_merge(const dc_session *s, dc_error *err)
{
    int rc = DC_OK, kept = 0;
    dc_hash key, output;
    dc_stage stage = {0};
    trained k = {0};
    dc_tokenizer *t = NULL;
    char *dir = dc_session_path(s, "merged", err);
    if (!dir) return DC_ENOMEM;
    DC_TRY(key_of(&key, s, 'm', "train", "train", err));
    DC_TRY(dc_stage_begin(&stage, &kept, s, "merge", "merged", NULL, key, err));
    if (kept) goto done;
    DC_TRY(trained_open(&k, s, err));
    DC_TRY(dc_session_tokenizer(&t, s, err));
    DC_TRY(dc_disk_check(s->dir, dc_model_parameters(k.model) * 4, "the merged model", err));
    DC_TRY(dc_hf_save(dir, k.model, t, DC_DTYPE_NONE, k.lora ? dc_lora_merged_rows : NULL, k.lora, err));
    DC_TRY(dc_session_hash_model(&output, dir, err));
    json_object_set_new(stage.summary, "parameters", json_integer((json_int_t)dc_model_parameters(k.model)));
    DC_TRY(dc_stage_end(&stage, s, output, err));
    dc_log(DC_LOG_INFO, "merge     done    %s", dir);
done:
    trained_release(&k);
    dc_tokenizer_free(t);
    dc_stage_release(&stage);
    dc_free(dir);
    return rc;
}

/* ---- export ---- */

/* Held-out documents if there are any, else the training ones: what parity is measured on. */
static int parity_loader(dc_set **set, dc_loader **loader, const dc_session *s, dc_error *err)
{
    int rc = DC_OK, has_eval;
    char *data = dc_session_path(s, "data", err);
    if (!data) return DC_ENOMEM;
    DC_TRY(dc_set_there(&has_eval, data, "eval", err));
    DC_TRY(dc_set_open(set, data, has_eval ? "eval" : "train", err));
    DC_TRY(dc_session_loader(loader, s, *set, "train", 1, 0, NULL, err));
done:
    dc_free(data);
    return rc;
}

/* The trained model, whose layers run once over the held-out rows, for all files. */
typedef struct judge {
    dc_set *set;
    dc_loader *loader;
    dc_parity_reference *reference;
} judge;

static int judge_open(judge *j, const dc_session *s, const trained *k, dc_error *err)
{
    const int rc = parity_loader(&j->set, &j->loader, s, err);
    return rc == DC_OK
               ? dc_parity_reference_new(&j->reference, k->model, k->lora ? 0 : -1, j->loader, PARITY_TOKENS, err)
               : rc;
}

static void judge_close(judge *j)
{
    dc_parity_reference_free(j->reference);
    dc_loader_free(j->loader);
    dc_set_close(j->set);
}

static int check_parity(const dc_session *s, const judge *j, const char *path, dc_parity *parity, dc_error *err)
{
    int rc = DC_OK;
    dc_model *file = NULL;
    json_t *json = NULL;
    dc_str out = {0};
    const dc_model_options o = dc_model_defaults();
    const size_t stem = strlen(path) - strlen(".gguf");
    dc_str_putf(&out, "%.*s.parity.json", (int)stem, path);
    DC_TRY(dc_model_open(&file, s->dev, path, &o, err));
    DC_TRY(dc_parity_against(parity, j->reference, file, -1, err));
    json = dc_parity_json(parity);
    DC_TRY(dc_json_save(json, dc_str_text(&out), err));
done:
    json_decref(json);
    dc_str_release(&out);
    dc_model_free(file);
    return rc;
}

/* The file's name: NAME-Q8_0.gguf. */
static char *export_path(const dc_session *s, size_t i, dc_dtype type, dc_error *err)
{
    char key[64], below[256];
    snprintf(key, sizeof key, "export[%zu].name", i);
    const char *name = dc_recipe_str(s->recipe, key);
    snprintf(below, sizeof below, "export/%s-%s.gguf", name ? name : dc_path_base(s->dir), dc_dtype_get(type)->name);
    return dc_session_path(s, below, err);
}

static int export_one(const dc_session *s, const trained *k, const judge *j, const dc_tokenizer *t, size_t i,
                      dc_stage *stage, dc_error *err)
{
    int rc = DC_OK;
    char key[64], bytes[32];
    dc_export_options o = {.rows = k->lora ? dc_lora_merged_rows : NULL,
                           .rows_context = k->lora,
                           .base_model = dc_recipe_str(s->recipe, "student.model")
                                             ? dc_path_base(dc_recipe_str(s->recipe, "student.model"))
                                             : NULL};
    dc_export_result result;
    dc_parity parity;
    char *path = NULL;
    snprintf(key, sizeof key, "export[%zu].type", i);
    DC_TRY(dc_export_type(&o.type, dc_recipe_str(s->recipe, key), err));
    path = export_path(s, i, o.type, err);
    if (!path) return DC_ENOMEM;
    DC_TRY(dc_export_gguf(path, k->model, t, &o, &result, err));
    DC_TRY(check_parity(s, j, path, &parity, err));
    json_object_set_new(stage->summary, dc_path_base(path),
                        json_pack("{s:s, s:I, s:o}", "type", dc_dtype_get(o.type)->name, "bytes",
                                  (json_int_t)result.bytes, "parity", dc_parity_json(&parity)));
    dc_human_bytes(bytes, sizeof bytes, (double)result.bytes);
    dc_log(DC_LOG_INFO, "export    done    %s · %s · KL %.5f · same top-1 %.2f %% · perplexity %.3f (trained %.3f)",
           path, bytes, parity.kl, 100 * parity.top1, parity.ppl_file, parity.ppl_reference);
done:
    dc_free(path);
    return rc;
}

int dc_stage_export(const dc_session *s, dc_error *err)
{
    int rc = DC_OK, kept = 0;
    dc_hash key;
    dc_stage stage = {0};
    trained k = {0};
    judge j = {0};
    dc_tokenizer *t = NULL;
    char *dir = dc_session_path(s, "export", err);
    if (!dir) return DC_ENOMEM;
    if (!dc_recipe_count(s->recipe, "export")) {
        rc = dc_fail(err, DC_EUSAGE, "the recipe exports nothing: give export: [q8_0]");
        goto done;
    }
    DC_TRY(key_of(&key, s, 'e', "train", "train", err));
    DC_TRY(dc_stage_begin(&stage, &kept, s, "export", "export", NULL, key, err));
    if (kept) goto done;
    DC_TRY(dc_mkdirs(dir, err));
    DC_TRY(trained_open(&k, s, err));
    DC_TRY(dc_session_tokenizer(&t, s, err));
    DC_TRY(judge_open(&j, s, &k, err));
    for (size_t i = 0; i < dc_recipe_count(s->recipe, "export"); i++) DC_TRY(export_one(s, &k, &j, t, i, &stage, err));
    DC_TRY(dc_stage_end(&stage, s, key, err));
done:
    judge_close(&j);
    trained_release(&k);
    dc_tokenizer_free(t);
    dc_stage_release(&stage);
    dc_free(dir);
    return rc;
}
