/* cli/report_html.c -- escaping, and the page's look. */
#include <string.h>

#include "cli/report_parts.h"

void dc_html_textn(dc_str *out, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)text[i];
        switch (c) {
        case '&': dc_str_puts(out, "&amp;"); break;
        case '<': dc_str_puts(out, "&lt;"); break;
        case '>': dc_str_puts(out, "&gt;"); break;
        case '"': dc_str_puts(out, "&quot;"); break;
        case '\'': dc_str_puts(out, "&#39;"); break;
        default: dc_str_putc(out, c < 32 && c != '\n' && c != '\t' ? ' ' : (char)c);
        }
    }
}

void dc_html_text(dc_str *out, const char *text) { dc_html_textn(out, text ? text : "", text ? strlen(text) : 0); }

/* Colours stand in variables, so that light and dark differ in one place; the six of the curves keep apart for colour-blind eyes in both. */
static const char style[] =
    ":root{color-scheme:light "
    "dark;--page:#fbfbfa;--card:#fff;--ink:#1c1e21;--soft:#63686f;--line:#e4e4e1;--good:#2563c9;--c0:#2563c9;"
    "--c1:#d9711c;--c2:#17917a;--c3:#8a5cc4;--c4:#b8912b;--c5:#c2476f}\n"
    "@media "
    "(prefers-color-scheme:dark){:root{--page:#131417;--card:#1b1d21;--ink:#e7e8ea;--soft:#989da5;--line:#2d3036;--"
    "good:#6ea3ff;"
    "--c0:#6ea3ff;--c1:#f0954a;--c2:#3fc0a5;--c3:#b792ea;--c4:#d9b54d;--c5:#e87ba0}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,'Segoe "
    "UI',Roboto,'Helvetica Neue',sans-serif}\n"
    "main{max-width:1120px;margin:0 auto;padding:40px 24px 64px}\n"
    "h1{font-size:27px;line-height:1.2;margin:0;letter-spacing:-.01em}\n"
    "h2{font-size:18px;margin:44px 0 12px;letter-spacing:-.005em}\n"
    "header p{margin:6px 0 0;color:var(--soft)}\n"
    "code,pre{font:12.5px/1.55 ui-monospace,'SF Mono',Menlo,Consolas,'DejaVu Sans Mono',monospace}\n"
    ".cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(210px,1fr));gap:14px;margin:26px 0 0}\n"
    ".card,figure,.box{background:var(--card);border:1px solid var(--line);border-radius:10px}\n"
    ".card{padding:14px 18px 13px}\n"
    ".card span{color:var(--soft);font-size:13px}\n"
    ".card "
    "strong{display:block;font-size:27px;line-height:1.25;font-weight:640;font-variant-numeric:tabular-nums;letter-"
    "spacing:-.01em}\n"
    ".card small{color:var(--soft);font-size:13px;display:block}\n"
    ".box{overflow-x:auto}\n"
    "table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\n"
    "th,td{text-align:right;padding:8px 16px;white-space:nowrap;border-top:1px solid var(--line)}\n"
    "thead th{border-top:0;color:var(--soft);font-weight:500;font-size:13px}\n"
    "th:first-child,td:first-child{text-align:left}\n"
    "tr.main td{font-weight:620}\n"
    "tr.file td:first-child{padding-left:32px;font:13px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace}\n"
    "td small{line-height:1.4;display:inline-block;color:var(--soft);font-weight:400}\n"
    "td.bar{width:26%;min-width:150px;padding-left:0}\n"
    "td.bar i{display:block;height:9px;border-radius:2px;background:var(--c0);opacity:.75;min-width:1px}\n"
    "tr.other td.bar i{background:var(--soft);opacity:.45}\n"
    ".charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,480px),1fr));gap:16px}\n"
    "figure{margin:0;padding:14px 16px 8px}\n"
    "figcaption{font-weight:600}\n"
    "figcaption small{font-weight:400;color:var(--soft);font-size:12.5px;margin-left:6px}\n"
    "figcaption .note{display:block;margin:0}\n"
    ".legend{margin:3px 0 6px;font-size:13px;color:var(--soft);min-height:20px;font-variant-numeric:tabular-nums}\n"
    ".legend span{margin-right:16px;white-space:nowrap}\n"
    ".legend b{color:var(--ink);font-weight:600}\n"
    ".legend i{display:inline-block;width:14px;height:3px;border-radius:2px;vertical-align:middle;margin-right:6px}\n"
    "svg{display:block;width:100%;height:auto;overflow:visible}\n"
    "svg text{font:11px system-ui,sans-serif}\n"
    ".tick{fill:var(--soft)}.grid{stroke:var(--line);stroke-width:1;fill:none}.axis{stroke:var(--soft);stroke-width:1;"
    "fill:none;opacity:.6}\n"
    ".line{fill:none;stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}.line.faint{opacity:.28;stroke-width:"
    "1.2}\n"
    ".dot{stroke:var(--card);stroke-width:1.2}.dot.faint{opacity:.35}\n"
    ".line.c0{stroke:var(--c0)}.line.c1{stroke:var(--c1)}.line.c2{stroke:var(--c2)}.line.c3{stroke:var(--c3)}.line.c4{"
    "stroke:var(--c4)}"
    ".line.c5{stroke:var(--c5)}\n"
    ".dot.c0{fill:var(--c0)}.dot.c1{fill:var(--c1)}.dot.c2{fill:var(--c2)}.dot.c3{fill:var(--c3)}.dot.c4{fill:var(--c4)"
    "}.dot.c5{fill:var(--c5)}\n"
    "i.c0{background:var(--c0)}i.c1{background:var(--c1)}i.c2{background:var(--c2)}i.c3{background:var(--c3)}i.c4{"
    "background:var(--c4)}"
    "i.c5{background:var(--c5)}\n"
    "details{margin-top:44px}summary{cursor:pointer;font-size:18px;font-weight:600}\n"
    "pre{margin:12px 0 0;padding:16px 18px;overflow-x:auto}\n"
    "footer{margin-top:44px;color:var(--soft);font-size:13px}\n"
    "@media print{main{padding:0}figure,tr{break-inside:avoid}}\n";

void dc_html_style(dc_str *out)
{
    dc_str_puts(out, "<style>\n");
    dc_str_puts(out, style);
    dc_str_puts(out, "</style>\n");
}
