/* cli/report_metrics.c -- curves from metrics.jsonl. */
#include <math.h>
#include <string.h>

#include "cli/report_parts.h"
#include "core/arena.h"
#include "core/file.h"
#include "core/json.h"

static const char *const keys[DC_CURVES] = {"loss", "ce",        "kd",      "grad_norm", "learning_rate",
                                            NULL,   "eval_loss", "eval_ce", "eval_kd",   "eval_accuracy"};

static int add(dc_points *p, double x, double y, dc_error *err)
{
    if (!isfinite(x) || !isfinite(y)) return DC_OK;
    if (dc_grow(&p->x, p->n, &p->room_x, sizeof *p->x) || dc_grow(&p->y, p->n, &p->room_y, sizeof *p->y))
        return dc_fail_memory(err, p->n * sizeof *p->x, "a run's metrics");
    p->x[p->n] = x;
    p->y[p->n++] = y;
    return DC_OK;
}

static int add_line(dc_metrics_file *m, const json_t *line, dc_error *err)
{
    int rc = DC_OK;
    const json_t *step = json_object_get(line, "step");
    if (!json_is_number(step)) return DC_OK;
    const double x = json_number_value(step);
    for (int k = 0; rc == DC_OK && k < DC_CURVES; k++) {
        const json_t *y = keys[k] ? json_object_get(line, keys[k]) : NULL;
        if (json_is_number(y)) rc = add(&m->curve[k], x, json_number_value(y), err);
    }
    const double tokens = json_number_value(json_object_get(line, "tokens")),
                 seconds = json_number_value(json_object_get(line, "seconds"));
    if (rc == DC_OK && tokens > 0 && seconds > 0) rc = add(&m->curve[DC_CURVE_RATE], x, tokens / seconds, err);
    m->lines++;
    return rc;
}

int dc_metrics_read(dc_metrics_file *out, const char *path, dc_error *err)
{
    dc_map map;
    dc_path_info there;
    *out = (dc_metrics_file){0};
    int rc = dc_path_look(&there, path, err);
    if (rc != DC_OK || !there.exists) return rc;
    rc = dc_map_open(&map, path, err);
    if (rc != DC_OK) return rc;
    const char *at = (const char *)map.data, *end = at + map.size;
    while (rc == DC_OK && at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        json_t *line = NULL;
        if (!stop) break;
        if (dc_json_parse(&line, at, (size_t)(stop - at), path, NULL) != DC_OK) break;
        rc = add_line(out, line, err);
        json_decref(line);
        at = stop + 1;
    }
    dc_map_close(&map);
    if (rc != DC_OK) dc_metrics_release(out);
    return rc;
}

void dc_metrics_release(dc_metrics_file *m)
{
    for (int k = 0; k < DC_CURVES; k++) {
        dc_free(m->curve[k].x);
        dc_free(m->curve[k].y);
    }
    *m = (dc_metrics_file){0};
}
