/* data/read_csv.c -- RFC 4180: quoted fields may hold delimiters, doubled quotes and line ends; a record ends with \n, \r\n or \r. A quote inside of an
 * unquoted field is an ordinary character. */
#include <stdio.h>
#include <string.h>

#include "core/arena.h"
#include "data/reader_internal.h"

enum { FIELD_START, PLAIN_FIELD, QUOTED, QUOTE_IN_QUOTED };

void dc_csv_release(dc_csv_scan *c)
{
    for (size_t i = 0; i < c->columns; i++) dc_free(c->names[i]);
    dc_free(c->names);
    dc_free(c->ends);
    *c = (dc_csv_scan){0};
}

static int end_field(dc_reader *r, dc_error *err)
{
    dc_csv_scan *c = &r->csv;
    if (dc_grow(&c->ends, c->n, &c->room, sizeof *c->ends))
        return dc_fail_memory(err, c->n * sizeof *c->ends, "CSV fields");
    c->ends[c->n++] = r->text.n;
    c->state = FIELD_START;
    return DC_OK;
}

/* One character. Returns 1 when it ended the record, 0 when not, negative: an error. */
static int take(dc_reader *r, char ch, dc_error *err)
{
    dc_csv_scan *c = &r->csv;
    if (c->state == QUOTED) {
        if (ch == '"') c->state = QUOTE_IN_QUOTED;
        else dc_reader_keep(r, &ch, 1);
        return 0;
    }
    if (c->state == QUOTE_IN_QUOTED && ch == '"') {
        c->state = QUOTED;
        dc_reader_keep(r, &ch, 1);
        return 0;
    }
    if (ch == c->delimiter) return end_field(r, err);
    if (ch == '\n' || ch == '\r') {
        c->skip_lf = ch == '\r';
        const int rc = end_field(r, err);
        return rc ? rc : 1;
    }
    if (c->state == FIELD_START && ch == '"') {
        c->state = QUOTED;
        c->quoted = 1;
        return 0;
    }
    if (c->state == QUOTE_IN_QUOTED) c->bad = "text behind the closing quote of a field";
    else c->state = PLAIN_FIELD;
    dc_reader_keep(r, &ch, 1);
    return 0;
}

/* Bytes ahead that belong to the field whatever they are. */
static size_t ordinary(const dc_reader *r)
{
    size_t n = 0;
    if (r->csv.state == QUOTE_IN_QUOTED) return 0;
    while (n < r->n && r->p[n] != '"' && r->p[n] != '\n' && r->p[n] != '\r' && r->p[n] != r->csv.delimiter) n++;
    return n;
}

/* A record into r->text and c->ends; *found is 0 at the end of the file. */
static int record(dc_reader *r, int *found, dc_error *err)
{
    dc_csv_scan *c = &r->csv;
    dc_reader_fresh(r);
    c->n = 0;
    c->state = FIELD_START;
    c->quoted = 0;
    c->bad = NULL;
    r->begin_line = r->line + 1;
    for (*found = 0;;) {
        int rc = dc_reader_fill(r, err);
        if (rc) return rc;
        if (r->drained) {
            if (!*found) return DC_OK;
            if (c->state == QUOTED) c->bad = "the file ends inside of a quoted field";
            return end_field(r, err);
        }
        const size_t run = ordinary(r);
        if (run) {
            dc_reader_keep(r, r->p, run);
            if (c->state == FIELD_START) c->state = PLAIN_FIELD;
            r->p += run;
            r->n -= run;
            c->skip_lf = 0;
            *found = 1;
            continue;
        }
        const char ch = *r->p++;
        r->n--;
        if (ch == '\n' && c->skip_lf) {
            c->skip_lf = 0;
            continue;
        }
        c->skip_lf = 0;
        *found = 1;
        rc = take(r, ch, err);
        r->line += ch == '\n' || (ch == '\r' && rc == 1);
        if (rc < 0) return rc;
        if (rc == 0) continue;
        if (c->n > 1 || r->text.n || r->too_long || c->quoted) return DC_OK;
        c->n = 0; /* a blank line */
        c->state = FIELD_START;
        *found = 0;
        r->begin_line = r->line + 1;
    }
}

static size_t begin_of(const dc_csv_scan *c, size_t i) { return i ? c->ends[i - 1] : 0; }

int dc_csv_begin(dc_reader *r, dc_error *err)
{
    dc_csv_scan *c = &r->csv;
    const char *file = r->files[r->at_file];
    int found;
    dc_csv_release(c);
    c->delimiter = r->format == DC_FORMAT_TSV ? '\t' : ',';
    const int rc = record(r, &found, err);
    if (rc) return rc;
    if (!found) return DC_OK; /* an empty file has no rows */
    if (r->too_long || c->bad)
        return dc_fail(err, DC_EFORMAT, "%s: the header line: %s", file, c->bad ? c->bad : "too long");
    c->names = dc_calloc(c->n, sizeof *c->names);
    if (!c->names || r->text.failed) return dc_fail_memory(err, c->n * sizeof *c->names, "CSV columns");
    for (; c->columns < c->n; c->columns++) {
        const size_t begin = begin_of(c, c->columns), n = c->ends[c->columns] - begin;
        const char *p = dc_str_text(&r->text) + begin;
        if (!dc_utf8_valid(p, n) || memchr(p, 0, n))
            return dc_fail(err, DC_EFORMAT, "%s: column %zu of the header is not valid UTF-8 text", file,
                           c->columns + 1);
        char *name = dc_malloc(n + 1);
        if (!name) return dc_fail_memory(err, n, "CSV columns");
        if (n) memcpy(name, p, n);
        name[n] = 0;
        c->names[c->columns] = name;
        for (size_t i = 0; i < c->columns; i++) {
            if (strcmp(c->names[i], name) != 0) continue;
            c->columns++; /* released with the others */
            return dc_fail(err, DC_EFORMAT, "%s: the header has the column '%.60s' twice", file, name);
        }
    }
    return DC_OK;
}

static int bad_fields(dc_reader *r, dc_error *err)
{
    char text[80];
    snprintf(text, sizeof text, "%zu fields where the header has %zu", r->csv.n, r->csv.columns);
    return dc_reader_bad(r, text, r->begin_line, 0, err);
}

int dc_read_csv(dc_reader *r, dc_error *err)
{
    dc_csv_scan *c = &r->csv;
    int found;
    const int rc = record(r, &found, err);
    if (rc || !found) return rc;
    if (r->too_long) return dc_reader_parse(r, r->begin_line, 0, err); /* tells the length */
    if (r->text.failed) return dc_fail_memory(err, r->text.n, "a row");
    if (c->bad) return dc_reader_bad(r, c->bad, r->begin_line, 0, err);
    if (c->n != c->columns) return bad_fields(r, err);
    for (size_t i = 0; i < c->n; i++)
        if (!dc_utf8_valid(dc_str_text(&r->text) + begin_of(c, i), c->ends[i] - begin_of(c, i)))
            return dc_reader_bad(r, "not valid UTF-8", r->begin_line, 0, err);
    json_t *value = json_object();
    for (size_t i = 0; i < c->n && value; i++) {
        const size_t begin = begin_of(c, i);
        json_t *field = json_stringn_nocheck(dc_str_text(&r->text) + begin, c->ends[i] - begin);
        if (json_object_set_new_nocheck(value, c->names[i], field)) {
            json_decref(value);
            value = NULL;
        }
    }
    return dc_reader_row(r, value, r->begin_line, 0, err);
}
