/* train/metrics.c */
#include "train/metrics.h"

#include <fcntl.h>
#include <math.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/file.h"

/* Reads up to `lines` whole lines into m->lines; where the last of them ends. */
static off_t skip_lines(dc_metrics *m, int64_t lines)
{
    off_t at = 0, end = 0;
    for (int c; m->lines < lines && (c = getc(m->file)) != EOF;) {
        at++;
        if (c == '\n') m->lines++, end = at;
    }
    return end;
}

int dc_metrics_open(dc_metrics *m, const char *dir, int64_t lines, dc_error *err)
{
    *m = (dc_metrics){0};
    m->path = dc_path_join(dir, "metrics.jsonl");
    if (!m->path) return dc_fail_memory(err, 0, "a path");
    const int fd = open(m->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    m->file = fd < 0 ? NULL : fdopen(fd, "r+");
    if (m->file) {
        const off_t end = skip_lines(m, lines);
        if (!ferror(m->file) && !fseeko(m->file, end, SEEK_SET) && !ftruncate(fd, end)) return DC_OK;
    }
    const int rc = dc_fail_errno(err, "write", m->path);
    if (fd >= 0 && !m->file) close(fd);
    dc_metrics_close(m);
    return rc;
}

static int put(dc_metrics *m, dc_str *line, dc_error *err)
{
    int rc = DC_OK;
    if (line->failed) rc = dc_fail_memory(err, line->n, "a line of metrics");
    else if (fwrite(line->data, 1, line->n, m->file) != line->n || fflush(m->file))
        rc = dc_fail_errno(err, "write", m->path);
    else m->lines++;
    dc_str_release(line);
    return rc;
}

/* A number as JSON has it: NaN and infinity are none there. */
static void put_number(dc_str *line, const char *key, double value)
{
    if (isfinite(value)) dc_str_putf(line, ", \"%s\": %.9g", key, value);
    else dc_str_putf(line, ", \"%s\": null", key);
}

int dc_metrics_step(dc_metrics *m, const dc_step_line *l, dc_error *err)
{
    dc_str line = {0};
    dc_str_putf(&line, "{\"step\": %lld", (long long)l->step);
    put_number(&line, "loss", l->sums.loss / l->denominator);
    put_number(&line, "ce", l->sums.ce / l->denominator);
    if (l->kd) put_number(&line, "kd", l->sums.kd / l->denominator);
    put_number(&line, "grad_norm", l->grad_norm);
    put_number(&line, "learning_rate", l->learning_rate);
    dc_str_putf(&line, ", \"tokens\": %lld, \"trained_tokens\": %.0f, \"seconds\": %.4f}\n", (long long)l->tokens,
                l->sums.rows, l->seconds);
    return put(m, &line, err);
}

int dc_metrics_eval(dc_metrics *m, int64_t step, const dc_losses *s, int kd, double seconds, dc_error *err)
{
    dc_str line = {0};
    const double w = s->weight > 0 ? s->weight : 1;
    dc_str_putf(&line, "{\"step\": %lld", (long long)step);
    put_number(&line, "eval_loss", s->loss / w);
    put_number(&line, "eval_ce", s->ce / w);
    if (kd) put_number(&line, "eval_kd", s->kd / w);
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
