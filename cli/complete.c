/* cli/complete.c -- words for a shell's completion, from the table of commands. */
#include "cli/command.h"
#include "core/recipe.h"

void dc_help_complete(dc_str *out, const dc_command *c)
{
    if (!c) {
        for (size_t i = 0; dc_commands[i]; i++) dc_str_putf(out, "%s\n", dc_commands[i]->name);
        dc_str_puts(out, "--help\n--version\n");
        return;
    }
    for (const dc_flag *f = c->flags; f && f->name; f++) dc_str_putf(out, "%s\n", f->name);
    dc_str_puts(out, "--json\n--help\n");
    if (c->takes != DC_TAKES_RECIPE && c->takes != DC_TAKES_RECIPE_MAYBE) return;
    for (const dc_key *k = dc_schema(); k->path; k++) dc_str_putf(out, "%s=\n", k->path);
}
