/* cli/stage.c -- which stages are up to date, and which files in a stage's folder may be gone on from. */
#include <stdio.h>
#include <string.h>

#include "cli/session.h"
#include "core/arena.h"
#include "core/file.h"
#include "core/json.h"
#include "core/log.h"

enum { SUMMARY_VERSION = 1 };

static char *stage_file(const dc_session *s, const char *folder, const char *name, dc_error *err)
{
    char below[128];
    snprintf(below, sizeof below, "%s/%s", folder, name);
    return dc_session_path(s, below, err);
}

/* A JSON file of the run, or NULL: damaged text counts as none. Takes the path, which may be NULL when memory is out. */
static int read_json(json_t **out, char *path, dc_error *err)
{
    dc_error damage = {0};
    dc_path_info there;
    *out = NULL;
    int rc = path ? dc_path_look(&there, path, err) : DC_ENOMEM;
    if (rc == DC_OK && there.exists) {
        rc = dc_json_load(out, path, &damage);
        if (rc == DC_EFORMAT) rc = DC_OK;
        else if (rc != DC_OK) dc_fail(err, (dc_code)rc, "%s", damage.message);
    }
    dc_free(path);
    return rc;
}

/* The summary of a finished stage, or NULL. */
static int read_summary(json_t **out, const dc_session *s, const char *folder, dc_error *err)
{
    const int rc = read_json(out, stage_file(s, folder, "summary.json", err), err);
    if (*out && json_integer_value(json_object_get(*out, "version")) != SUMMARY_VERSION) {
        json_decref(*out);
        *out = NULL;
    }
    return rc;
}

static int has_text(const json_t *object, const char *key, const char *text)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value && !strcmp(value, text);
}

/* ---- what a stage was begun with ----
 *
 * output_dir/.stages/FOLDER.json stands outside the folder, so that the folder may be removed or replaced whole at any moment: it holds the key
 * and the recipe that the files in the folder belong to. "ready" is false while older files are being removed. */

static char *record_file(const dc_session *s, const char *folder, dc_error *err)
{
    char below[128];
    snprintf(below, sizeof below, ".stages/%s.json", folder);
    return dc_session_path(s, below, err);
}

static int write_record(const dc_session *s, const dc_stage *stage, int ready, dc_error *err)
{
    int rc = DC_OK;
    json_t *recipe = dc_recipe_json(s->recipe), *record = NULL;
    char *folder = dc_session_path(s, ".stages", err), *path = record_file(s, stage->folder, err);
    if (recipe)
        record = json_pack("{s:i, s:s, s:s, s:b, s:O}", "version", SUMMARY_VERSION, "stage", stage->name, "key",
                           stage->key.hex, "ready", ready, "recipe", recipe);
    if (!record || !folder || !path) {
        rc = dc_fail_memory(err, 0, "the record of a stage");
        goto done;
    }
    DC_TRY(dc_mkdirs(folder, err));
    DC_TRY(dc_json_save(record, path, err));
done:
    json_decref(record);
    json_decref(recipe);
    dc_free(folder);
    dc_free(path);
    return rc;
}

/* Whoever points output_dir at a folder of their own must not lose what lies in it. */
static int refuse_foreign(const dc_session *s, const char *folder, dc_error *err)
{
    char **names = NULL;
    size_t n = 0;
    dc_path_info there;
    char *path = dc_session_path(s, folder, err);
    if (!path) return DC_ENOMEM;
    int rc = dc_path_look(&there, path, err);
    if (rc == DC_OK && there.is_dir) rc = dc_dir_list(&names, &n, path, err);
    if (rc == DC_OK && n)
        rc = dc_fail(err, DC_EMISMATCH,
                     "%s holds files (%s ...) that no run of this output_dir wrote. Choose another output_dir, or move "
                     "them away.",
                     path, names[0]);
    dc_names_free(names);
    dc_free(path);
    return rc;
}

/* The files in the folder belong to other inputs: going on from them would mix two runs. */
static int refuse_changed(const dc_session *s, const dc_stage *stage, const char *stages, const json_t *record,
                          dc_error *err)
{
    const int rc = dc_recipe_resumable(s->recipe, stages, json_object_get(record, "recipe"), err);
    if (rc != DC_OK) return rc;
    return dc_fail(
        err, DC_EMISMATCH,
        "%s/%s was begun with other inputs: its data, a model or what an earlier stage made has changed since.\n"
        "Put them back to go on with that run, or begin anew with --restart.",
        s->dir, stage->folder);
}

/* Empties the folder; a kill in between is made good by the next run. */
static int begin_anew(const dc_session *s, const dc_stage *stage, dc_error *err)
{
    char *folder = dc_session_path(s, stage->folder, err);
    if (!folder) return DC_ENOMEM;
    int rc = write_record(s, stage, 0, err);
    if (rc == DC_OK) rc = dc_remove_tree(folder, err);
    if (rc == DC_OK) rc = write_record(s, stage, 1, err);
    dc_free(folder);
    return rc;
}

static int take_folder(const dc_session *s, const dc_stage *stage, const char *resumes, dc_error *err)
{
    int rc = DC_OK;
    json_t *record = NULL; /* when the stage was never begun here */
    DC_TRY(read_json(&record, record_file(s, stage->folder, err), err));
    const int ready = json_is_true(json_object_get(record, "ready"));
    if (!record) {
        DC_TRY(refuse_foreign(s, stage->folder, err));
        if (!strcmp(stage->folder, "data") && dc_recipe_has(s->recipe, "tokenizer.train"))
            DC_TRY(refuse_foreign(s, "tokenizer", err));
    }
    if (!resumes || s->restart || !ready) rc = begin_anew(s, stage, err);
    else if (!has_text(record, "key", stage->key.hex)) rc = refuse_changed(s, stage, resumes, record, err);
done:
    json_decref(record);
    return rc;
}

int dc_stage_begin(dc_stage *stage, int *kept, const dc_session *s, const char *name, const char *folder,
                   const char *resumes, dc_hash key, dc_error *err)
{
    *stage = (dc_stage){.name = name, .folder = folder, .key = key, .began = dc_now()};
    const int rc = read_summary(&stage->summary, s, folder, err);
    if (rc != DC_OK) return rc;
    *kept = !s->restart && stage->summary && has_text(stage->summary, "key", key.hex);
    if (*kept) {
        dc_log(DC_LOG_INFO, "%-9s kept    nothing it depends on has changed", name);
        return DC_OK;
    }
    json_decref(stage->summary);
    stage->summary = json_object();
    stage->times = json_object();
    if (!stage->summary || !stage->times) return dc_fail_memory(err, 0, "a stage's summary");
    return take_folder(s, stage, resumes, err);
}

int dc_stage_end(dc_stage *stage, const dc_session *s, dc_hash output, dc_error *err)
{
    int rc = DC_OK;
    char *summary = stage_file(s, stage->folder, "summary.json", err),
         *times = stage_file(s, stage->folder, "times.json", err);
    char *folder = dc_session_path(s, stage->folder, err);
    json_object_set_new(stage->summary, "version", json_integer(SUMMARY_VERSION));
    json_object_set_new(stage->summary, "stage", json_string(stage->name));
    json_object_set_new(stage->summary, "key", json_string(stage->key.hex));
    json_object_set_new(stage->summary, "output", json_string(output.hex));
    json_object_set_new(stage->times, "seconds", json_real(dc_now() - stage->began));
    json_object_set_new(stage->times, "peak_memory", json_integer((json_int_t)dc_peak_rss()));
    if (!summary || !times || !folder) {
        rc = DC_ENOMEM;
        goto done;
    }
    DC_TRY(dc_mkdirs(folder, err));
    DC_TRY(dc_json_save(stage->times, times, err));
    DC_TRY(dc_json_save(stage->summary, summary, err));
done:
    dc_free(summary);
    dc_free(times);
    dc_free(folder);
    return rc;
}

void dc_stage_release(dc_stage *stage)
{
    json_decref(stage->summary);
    json_decref(stage->times);
    *stage = (dc_stage){0};
}

int dc_stage_output(dc_hash *out, const dc_session *s, const char *name, const char *folder, dc_error *err)
{
    json_t *summary;
    int rc = read_summary(&summary, s, folder, err);
    if (rc != DC_OK) return rc;
    const char *hex = json_string_value(json_object_get(summary, "output"));
    if (hex && strlen(hex) == 32) memcpy(out->hex, hex, 33);
    else
        rc = dc_fail(err, DC_EMISMATCH,
                     "%s/%s is not there or not finished: run 'decant %s' (or 'decant run') with this recipe first",
                     s->dir, folder, name);
    json_decref(summary);
    return rc;
}
