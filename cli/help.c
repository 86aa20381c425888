/* cli/help.c -- the texts of --help, from the table of commands. */
#include <string.h>

#include "cli/command.h"
#include "core/recipe.h"

static const char *const groups[] = {"run everything", "make data", "teach and train", "deploy", "look", NULL};

void dc_help_overview(dc_str *out)
{
    dc_str_puts(
        out,
        "decant pours a large language model into a small one: text -> teacher's logits -> LoRA student -> GGUF.\n\n"
        "usage: decant COMMAND [RECIPE.yaml] [section.key=value ...] [--flags]\n");
    for (size_t g = 0; groups[g]; g++) {
        dc_str_putf(out, "\n%s\n", groups[g]);
        for (size_t i = 0; dc_commands[i]; i++)
            if (!strcmp(dc_commands[i]->group, groups[g]))
                dc_str_putf(out, "  %-11s %s\n", dc_commands[i]->name, dc_commands[i]->summary);
    }
    dc_str_puts(out,
                "\ndecant COMMAND --help tells all of a command; decant help recipe KEY explains a key of the recipe.\n"
                "Begin with: decant run configs/quickstart.yaml\n");
}

static void put_usage(dc_str *out, const dc_command *c)
{
    dc_str_putf(out, "usage: decant %s", c->name);
    if (c->takes == DC_TAKES_RECIPE) dc_str_puts(out, " RECIPE.yaml [section.key=value ...]");
    if (c->takes == DC_TAKES_RECIPE_MAYBE) dc_str_puts(out, " [RECIPE.yaml [section.key=value ...]]");
    if (c->words) dc_str_putf(out, " %s", c->words);
    dc_str_puts(out, " [--flags]\n");
}

static void put_flag(dc_str *out, const dc_flag *f)
{
    dc_str left = {0};
    dc_str_putf(&left, "%s%s%s", f->name, f->value ? " " : "", f->value ? f->value : "");
    dc_str_putf(out, "  %-24s %s\n", dc_str_text(&left), f->help);
    dc_str_release(&left);
}

/* The keys of the sections a command reads, one line each. */
static void put_sections(dc_str *out, const dc_command *c)
{
    const char *at = c->sections;
    dc_str_puts(out, "\nrecipe keys it reads\n");
    while (at && *at) {
        const size_t n = strcspn(at, " ");
        for (const dc_key *k = dc_schema(); k->path; k++) {
            const int in = !strncmp(k->path, at, n) && (k->path[n] == '.' || k->path[n] == '[' || !k->path[n]);
            if (in)
                dc_str_putf(out, "  %-38s %s%s%s%s\n", k->path, k->help, k->fallback ? " (" : "",
                            k->fallback ? k->fallback : "", k->fallback ? ")" : "");
        }
        at += n + (at[n] == ' ');
    }
}

void dc_help_command(dc_str *out, const dc_command *c)
{
    put_usage(out, c);
    dc_str_putf(out, "\n%s\n\nflags\n", c->summary);
    for (const dc_flag *f = c->flags; f && f->name; f++) put_flag(out, f);
    put_flag(out, &(dc_flag){"--json", NULL, "machine-readable result on stdout"});
    put_flag(out, &(dc_flag){"--help", NULL, "this text"});
    if (c->sections) put_sections(out, c);
    if (c->examples) dc_str_putf(out, "\nexamples\n%s", c->examples);
    dc_str_puts(out, "\nexit codes: 0 done, 1 failed, 2 usage or recipe error, 75 stopped by a signal, with a "
                     "checkpoint: run it again\n");
}

void dc_help_markdown(dc_str *out)
{
    dc_str_puts(out, "# Commands\n\nMade by `decant help --markdown commands` from the program's own table; a test "
                     "fails when it drifts.\n\n```\n");
    dc_help_overview(out);
    dc_str_puts(out, "```\n");
    for (size_t i = 0; dc_commands[i]; i++) {
        dc_command c = *dc_commands[i];
        dc_str_putf(out, "\n## %s\n\n```\n", c.name);
        c.sections = NULL; /* docs/recipe.md has them */
        dc_help_command(out, &c);
        dc_str_puts(out, "```\n");
    }
}
