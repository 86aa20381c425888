/* cli/report_chart.c -- curves as SVG that follows the page's colours. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/report_parts.h"

/* The drawing in its own units; the page scales it to the width there is. */
enum { WIDTH = 520, HEIGHT = 240, LEFT = 52, RIGHT = 12, TOP = 10, BOTTOM = 34, MOST_POINTS = 260 };

typedef struct frame {
    double x0, x1, y0, y1; /* what the axes span; of the logarithm when `log_y` */
    int log_y;
} frame;

static double px(const frame *f, double x) { return LEFT + (x - f->x0) / (f->x1 - f->x0) * (WIDTH - LEFT - RIGHT); }

static double py(const frame *f, double y)
{
    const double at = f->log_y ? log10(y) : y;
    return HEIGHT - BOTTOM - (at - f->y0) / (f->y1 - f->y0) * (HEIGHT - TOP - BOTTOM);
}

/* 1, 2 or 5 times a power of ten: the smallest that is not below x. */
static double nice(double x)
{
    const double power = pow(10, floor(log10(x))), part = x / power;
    return (part <= 1.0001 ? 1 : part <= 2.0001 ? 2 : part <= 5.0001 ? 5 : 10) * power;
}

static size_t log_ticks(double ticks[12], double low, double high, int most)
{
    static const double all[] = {1, 2, 5};
    size_t n = 0;
    const size_t each = (high - low) * 3 <= most + 3 ? 3 : 1;
    const double every = fmax(1, ceil((high - low) / most));
    for (double decade = floor(low); decade <= high && n < 12; decade += every)
        for (size_t i = 0; i < each && n < 12; i++) {
            const double at = decade + log10(all[i]);
            if (at >= low - 1e-9 && at <= high + 1e-9) ticks[n++] = pow(10, at);
        }
    return n;
}

size_t dc_chart_ticks(double ticks[12], double low, double high, int most, int log_scale)
{
    size_t n = 0;
    if (log_scale) return log_ticks(ticks, low, high, most);
    const double step = nice((high - low) / most);
    for (double i = ceil(low / step - 1e-9); i * step <= high + step * 1e-9 && n < 12; i++)
        ticks[n++] = i * step == 0 ? 0 : i * step;
    return n;
}

static void put_number(dc_str *out, double x)
{
    const double a = fabs(x);
    if (a >= 1e6) dc_str_putf(out, "%.4gM", x / 1e6);
    else if (a >= 1e4) dc_str_putf(out, "%.4gk", x / 1e3);
    else dc_str_putf(out, "%.4g", x);
}

/* How many points of a line make one of the drawing. */
static size_t part_of(const dc_chart_line *l) { return l->dots ? 1 : (l->n + MOST_POINTS - 1) / MOST_POINTS; }

/* The mean of the part that begins at `at`; 0 when it has no finite value. */
static int mean_at(const dc_chart_line *l, size_t at, double *x, double *y)
{
    double n = 0;
    *x = *y = 0;
    for (size_t k = at; k < l->n && k < at + part_of(l); k++)
        if (isfinite(l->x[k]) && isfinite(l->y[k])) *x += l->x[k], *y += l->y[k], n++;
    *x /= n > 0 ? n : 1, *y /= n > 0 ? n : 1;
    return n > 0;
}

/* What steps and drawn values span; 0 when there are none. */
static int span(frame *f, const dc_chart *c)
{
    double low = DBL_MAX, high = -DBL_MAX, x, y;
    *f = (frame){.x0 = DBL_MAX, .x1 = -DBL_MAX};
    for (size_t i = 0; i < c->n; i++) {
        const dc_chart_line *l = &c->lines[i];
        if (l->n) f->x0 = fmin(f->x0, l->x[0]), f->x1 = fmax(f->x1, l->x[l->n - 1]);
        for (size_t k = 0; k < l->n; k += part_of(l))
            if (mean_at(l, k, &x, &y)) low = fmin(low, y), high = fmax(high, y);
    }
    if (low > high) return 0;
    if (f->x0 == f->x1) f->x0 -= 0.5, f->x1 += 0.5;
    f->log_y = !c->zero && low > 0 && high > 8 * low;
    f->y0 = f->log_y ? log10(low) : c->zero ? fmin(low, 0) : low;
    f->y1 = f->log_y ? log10(high) : high;
    const double room = f->y1 > f->y0 ? 0.05 * (f->y1 - f->y0) : fmax(fabs(f->y1), 1e-12) * 0.1;
    f->y0 -= c->zero ? 0 : room, f->y1 += room;
    return 1;
}

static void put_axes(dc_str *out, const frame *f, const dc_chart *c)
{
    double ticks[12];
    size_t n = dc_chart_ticks(ticks, f->y0, f->y1, 5, f->log_y);
    for (size_t i = 0; i < n; i++) {
        const double y = py(f, ticks[i]);
        dc_str_putf(
            out,
            "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text class=\"tick\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">",
            LEFT, y, WIDTH - RIGHT, LEFT - 6, y + 4);
        put_number(out, ticks[i]);
        dc_str_puts(out, "</text>");
    }
    n = dc_chart_ticks(ticks, f->x0, f->x1, f->x1 - f->x0 < 6 ? (int)(f->x1 - f->x0) : 6, 0); /* whole steps */
    for (size_t i = 0; i < n; i++) {
        dc_str_putf(out, "<text class=\"tick\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">", px(f, ticks[i]),
                    HEIGHT - BOTTOM + 16);
        put_number(out, ticks[i]);
        dc_str_puts(out, "</text>");
    }
    dc_str_putf(out,
                "<path class=\"axis\" d=\"M%d %dH%d\"/><text class=\"tick\" x=\"%d\" y=\"%d\" text-anchor=\"end\">",
                LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, WIDTH - RIGHT, HEIGHT - 4);
    dc_html_text(out, c->x_label);
    dc_str_puts(out, "</text>");
}

static void put_path(dc_str *out, const frame *f, const dc_chart_line *l)
{
    const char *move = "M";
    double x, y;
    dc_str_putf(out, "<path class=\"line c%d%s\" d=\"", l->color, l->faint ? " faint" : "");
    for (size_t at = 0; at < l->n; at += part_of(l)) {
        if (!mean_at(l, at, &x, &y)) continue;
        dc_str_putf(out, "%s%.1f %.1f", move, px(f, x), py(f, y));
        move = "L";
    }
    dc_str_puts(out, "\"/>");
}

static void put_dots(dc_str *out, const frame *f, const dc_chart_line *l)
{
    for (size_t k = 0; k < l->n; k++) {
        if (!isfinite(l->y[k])) continue;
        dc_str_putf(out, "<circle class=\"dot c%d%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"><title>", l->color,
                    l->faint ? " faint" : "", px(f, l->x[k]), py(f, l->y[k]));
        dc_html_text(out, l->name);
        dc_str_putf(out, ", step %.0f: %.6g</title></circle>", l->x[k], l->y[k]);
    }
}

static void put_legend(dc_str *out, const dc_chart *c)
{
    dc_str_puts(out, "<p class=\"legend\">");
    for (size_t i = 0; i < c->n; i++) {
        const dc_chart_line *l = &c->lines[i];
        if (l->faint || !l->n || !*l->name) continue;
        dc_str_putf(out, "<span><i class=\"c%d\"></i>", l->color);
        dc_html_text(out, l->name);
        dc_str_puts(out, " <b>");
        put_number(out, l->y[l->n - 1]);
        dc_str_puts(out, "</b></span>");
    }
    dc_str_puts(out, "</p>");
}

void dc_chart_put(dc_str *out, const dc_chart *c)
{
    frame f;
    if (!span(&f, c)) return;
    dc_str_puts(out, "<figure><figcaption>");
    dc_html_text(out, c->title);
    if (f.log_y) dc_str_puts(out, " <small>log scale</small>");
    if (c->note) {
        dc_str_puts(out, "<small class=\"note\">");
        dc_html_text(out, c->note);
        dc_str_puts(out, "</small>");
    }
    dc_str_puts(out, "</figcaption>");
    put_legend(out, c);
    dc_str_putf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH, HEIGHT);
    dc_html_text(out, c->title);
    dc_str_puts(out, "\">");
    put_axes(out, &f, c);
    for (int front = 0; front < 2; front++) /* repeats lie behind */
        for (size_t i = 0; i < c->n; i++) {
            if (!c->lines[i].n || c->lines[i].faint == front) continue;
            put_path(out, &f, &c->lines[i]);
            if (c->lines[i].dots) put_dots(out, &f, &c->lines[i]);
        }
    dc_str_puts(out, "</svg></figure>\n");
}
