/* cli/report_parts.h -- the parts that report.html is made of; private to cli/report*.c and their tests.
 *
 * Everything a file or a recipe says is escaped on its way into the page. Text is appended to a dc_str; memory errors surface in its `failed`. */
#ifndef DC_CLI_REPORT_PARTS_H
#define DC_CLI_REPORT_PARTS_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/str.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Text with & < > " ' as entities, and without control characters. */
void dc_html_text(dc_str *out, const char *text);
void dc_html_textn(dc_str *out, const char *text, size_t n);
void dc_html_style(dc_str *out); /* the page's <style> */

/* ---- charts (report_chart.c) ---- */
typedef struct dc_chart_line {
    const char *name;    /* "": without an entry in the legend */
    const double *x, *y; /* [n], x ascending; values that are not finite are left out */
    size_t n;
    int color; /* 0..5 of the palette */
    int faint; /* a repeat in the background, without an entry in the legend */
    int dots;  /* few points: marked, each with its value */
} dc_chart_line;

typedef struct dc_chart {
    const char *title, *x_label;
    const char *note; /* or NULL: a line below the title */
    const dc_chart_line *lines;
    size_t n;
    int zero; /* the axis begins at 0 */
} dc_chart;

/* A <figure> with title, legend with last values, and the curves as SVG; nothing when there are no points. y is logarithmic when all values are positive
 * and span more than a factor of 8 (unless `zero`). Long lines are drawn as means of equal parts. */
void dc_chart_put(dc_str *out, const dc_chart *chart);
/* Places for about `most` ticks in [low, high], ascending; returns how many, at most 12. */
size_t dc_chart_ticks(double ticks[12], double low, double high, int most, int log_scale);

/* ---- metrics of a run (report_metrics.c) ---- */
typedef enum dc_curve {
    DC_CURVE_LOSS,
    DC_CURVE_CE,
    DC_CURVE_KD,
    DC_CURVE_GRAD,
    DC_CURVE_LR,
    DC_CURVE_RATE,
    DC_CURVE_EVAL_LOSS,
    DC_CURVE_EVAL_CE,
    DC_CURVE_EVAL_KD,
    DC_CURVE_EVAL_ACCURACY,
    DC_CURVES
} dc_curve;

typedef struct dc_points {
    double *x, *y;
    size_t n, room_x, room_y;
} dc_points;

typedef struct dc_metrics_file {
    dc_points curve[DC_CURVES];
    int64_t lines;
} dc_metrics_file;

/* Reads metrics.jsonl. A missing file has no points; reading ends at a line that is not whole (a run that was killed). */
int dc_metrics_read(dc_metrics_file *out, const char *path, dc_error *err);
void dc_metrics_release(dc_metrics_file *m); /* twice is safe */

/* ---- tables (report_tables.c): each appends a section, or nothing ---- */
void dc_report_results(dc_str *out, const json_t *summary, const json_t *times); /* eval/ */
void dc_report_stages(dc_str *out, const char *run_dir);
void dc_report_parity(dc_str *out, const char *run_dir);
/* dir/below as JSON, or NULL when it is missing; or unreadable, which is then said. */
json_t *dc_report_json(const char *dir, const char *below);

#ifdef __cplusplus
}
#endif
#endif
