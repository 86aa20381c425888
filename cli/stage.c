/* cli/stage.c -- which stages are up to date. */
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

/* The summary of a finished stage, or NULL: one that cannot be read counts as none. */
static json_t *read_summary(const dc_session *s, const char *folder)
{
    json_t *summary = NULL;
    char *path = stage_file(s, folder, "summary.json", NULL);
    if (path && dc_path_exists(path)) dc_json_load(&summary, path, NULL);
    dc_free(path);
    if (summary && json_integer_value(json_object_get(summary, "version")) != SUMMARY_VERSION) {
        json_decref(summary);
        summary = NULL;
    }
    return summary;
}

static int has_text(const json_t *object, const char *key, const char *text)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value && !strcmp(value, text);
}

int dc_stage_begin(dc_stage *stage, int *kept, const dc_session *s, const char *name, const char *folder, dc_hash key, dc_error *err)
{
    *stage = (dc_stage){.name = name, .folder = folder, .key = key, .began = dc_now()};
    stage->summary = read_summary(s, folder);
    *kept = !s->restart && stage->summary && has_text(stage->summary, "key", key.hex);
    if (*kept) {
        dc_log(DC_LOG_INFO, "%-9s kept    nothing it depends on has changed", name);
        return DC_OK;
    }
    /* The summary goes first: a kill from here on must not leave an old one beside new files. */
    json_decref(stage->summary);
    stage->summary = json_object();
    stage->times = json_object();
    char *path = stage_file(s, folder, "summary.json", err);
    if (!stage->summary || !stage->times || !path) {
        dc_free(path);
        return dc_fail_memory(err, 0, "a stage's summary");
    }
    const int rc = dc_remove_tree(path, err);
    dc_free(path);
    return rc;
}

int dc_stage_end(dc_stage *stage, const dc_session *s, dc_hash output, dc_error *err)
{
    int rc = DC_OK;
    char *summary = stage_file(s, stage->folder, "summary.json", err), *times = stage_file(s, stage->folder, "times.json", err);
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
    json_t *summary = read_summary(s, folder);
    const char *hex = json_string_value(json_object_get(summary, "output"));
    int rc = DC_OK;
    if (hex && strlen(hex) == 32)
        memcpy(out->hex, hex, 33);
    else
        rc = dc_fail(err, DC_EMISMATCH, "%s/%s is not there or not finished: run 'decant %s' (or 'decant run') with this recipe first", s->dir,
                     folder, name);
    json_decref(summary);
    return rc;
}
