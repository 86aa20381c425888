/* train/metrics.c */
#include "train/metrics.h"

#include <unistd.h>

#include "core/arena.h"
#include "core/file.h"

int dc_metrics_open(dc_metrics *m, const char *dir, int64_t bytes, dc_error *err)
{
    *m = (dc_metrics){0};
    m->path = dc_path_join(dir, "metrics.jsonl");
    if (!m->path) return dc_fail_memory(err, 0, "a path");
    const int64_t there = dc_file_size(m->path);
    m->file = fopen(m->path, there >= 0 ? "r+" : "w");
    m->bytes = there < bytes ? (there < 0 ? 0 : there) : bytes;
    if (!m->file || ftruncate(fileno(m->file), (off_t)m->bytes) || fseeko(m->file, (off_t)m->bytes, SEEK_SET)) {
        const int rc = dc_fail_errno(err, "write", m->path);
        dc_metrics_close(m);
        return rc;
    }
    return DC_OK;
}

static int put(dc_metrics *m, dc_str *line, dc_error *err)
{
    int rc = DC_OK;
    if (line->failed)
        rc = dc_fail_memory(err, line->n, "a line of metrics");
    else if (fwrite(line->data, 1, line->n, m->file) != line->n || fflush(m->file))
        rc = dc_fail_errno(err, "write", m->path);
    m->bytes += (int64_t)line->n;
    dc_str_release(line);
    return rc;
}

int dc_metrics_step(dc_metrics *m, const dc_step_line *l, dc_error *err)
{
    dc_str line = {0};
    dc_str_putf(&line, "{\"step\": %lld, \"loss\": %.9g, \"ce\": %.9g", (long long)l->step, l->sums.loss / l->denominator,
                l->sums.ce / l->denominator);
    if (l->kd) dc_str_putf(&line, ", \"kd\": %.9g", l->sums.kd / l->denominator);
    dc_str_putf(&line, ", \"grad_norm\": %.9g, \"learning_rate\": %.9g, \"tokens\": %lld, \"trained_tokens\": %.0f, \"seconds\": %.4f}\n",
                l->grad_norm, l->learning_rate, (long long)l->tokens, l->sums.rows, l->seconds);
    return put(m, &line, err);
}

int dc_metrics_eval(dc_metrics *m, int64_t step, const dc_losses *s, int kd, double seconds, dc_error *err)
{
    dc_str line = {0};
    const double w = s->weight > 0 ? s->weight : 1;
    dc_str_putf(&line, "{\"step\": %lld, \"eval_loss\": %.9g, \"eval_ce\": %.9g", (long long)step, s->loss / w, s->ce / w);
    if (kd) dc_str_putf(&line, ", \"eval_kd\": %.9g", s->kd / w);
    dc_str_putf(&line, ", \"eval_accuracy\": %.6g, \"eval_tokens\": %.0f, \"eval_seconds\": %.4f}\n",
                s->top1 / (s->rows > 0 ? s->rows : 1), s->rows, seconds);
    return put(m, &line, err);
}

void dc_metrics_close(dc_metrics *m)
{
    if (m->file) fclose(m->file);
    dc_free(m->path);
    *m = (dc_metrics){0};
}
