/* cli/cmd_help.c -- help: a command, a key of the recipe, and the reference pages. */
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "core/recipe.h"

static int run(dc_cli *cli, dc_error *err)
{
    dc_str out = {0};
    int rc = DC_OK;
    const char *page = dc_cli_get(cli, "--markdown");
    const dc_command *c = cli->n_words == 1 ? dc_command_find(cli->words[0]) : NULL;
    if (dc_cli_get(cli, "--complete")) dc_help_complete(&out, c);
    else if (page && !strcmp(page, "recipe")) dc_schema_markdown(&out);
    else if (page && !strcmp(page, "commands")) dc_help_markdown(&out);
    else if (page) rc = dc_fail(err, DC_EUSAGE, "decant help: --markdown takes 'recipe' or 'commands', not '%s'", page);
    else if (!cli->n_words) dc_help_overview(&out);
    else if (!strcmp(cli->words[0], "recipe"))
        rc = dc_schema_help(&out, cli->n_words > 1 ? cli->words[1] : "", err) == DC_OK ? DC_OK : DC_EUSAGE;
    else if (c) dc_help_command(&out, c);
    else rc = dc_fail(err, DC_EUSAGE, "decant help: there is no command '%s'; decant help lists them", cli->words[0]);
    if (rc == DC_OK) fputs(dc_str_text(&out), stdout);
    dc_str_release(&out);
    return rc;
}

static const dc_flag flags[] = {{"--markdown", "PAGE", "a reference page of the documentation: recipe or commands"},
                                {"--complete", NULL, "words for a shell's completion: the commands, or those of one"},
                                {NULL, NULL, NULL}};

const dc_command dc_cmd_help = {.name = "help",
                                .group = "look",
                                .summary = "explains a command, or a key of the recipe",
                                .takes = DC_TAKES_WORDS,
                                .words = "[COMMAND | recipe [KEY]]",
                                .flags = flags,
                                .examples = "  decant help train\n  decant help recipe lora.target_modules\n",
                                .run = run};
