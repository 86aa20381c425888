/* cli/args.c -- what was typed. */
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "core/arena.h"

static const dc_flag everybody[] = {
    {"--json", NULL, "machine-readable result on stdout"}, {"--help", NULL, "this text"}, {NULL, NULL, NULL}};

static size_t n_flags(const dc_command *c)
{
    size_t n = 0;
    while (c->flags && c->flags[n].name) n++;
    return n;
}

static int unknown_flag(const dc_command *c, const char *name, dc_error *err)
{
    const char *names[64];
    size_t n = 0;
    for (size_t i = 0; i < n_flags(c) && n < 60; i++) names[n++] = c->flags[i].name;
    for (size_t i = 0; everybody[i].name; i++) names[n++] = everybody[i].name;
    names[n] = NULL;
    const char *near = dc_nearest(name, names);
    return dc_fail(err, DC_EUSAGE, "decant %s: unknown flag '%s'%s%s%s; decant %s --help lists them", c->name, name,
                   near ? "; did you mean '" : "", near ? near : "", near ? "'" : "", c->name);
}

/* Takes the flag at argv[*i]; moves *i when its value is the next word. */
static int take_flag(dc_cli *cli, int argc, const char *const *argv, int *i, dc_error *err)
{
    const dc_command *c = cli->command;
    char name[64];
    const char *equals = strchr(argv[*i], '=');
    const size_t n = equals ? (size_t)(equals - argv[*i]) : strlen(argv[*i]);
    if (n >= sizeof name) return unknown_flag(c, argv[*i], err);
    memcpy(name, argv[*i], n);
    name[n] = 0;
    if (!strcmp(name, "--json")) return cli->json = 1, DC_OK;
    if (!strcmp(name, "--help") || !strcmp(name, "-h")) return cli->help = 1, DC_OK;
    for (size_t k = 0; k < n_flags(c); k++) {
        if (strcmp(c->flags[k].name, name)) continue;
        if (!c->flags[k].value && equals) return dc_fail(err, DC_EUSAGE, "decant %s: %s takes no value", c->name, name);
        if (c->flags[k].value && !equals && *i + 1 >= argc)
            return dc_fail(err, DC_EUSAGE, "decant %s: %s needs a value: %s", c->name, name, c->flags[k].value);
        cli->values[k] = !c->flags[k].value ? "" : equals ? equals + 1 : argv[++*i];
        return DC_OK;
    }
    return unknown_flag(c, name, err);
}

/* section.key=value, with nothing like a path before the '='. */
static int is_override(const char *word)
{
    const char *equals = strchr(word, '=');
    if (!equals || equals == word) return 0;
    return word + strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.[]-") == equals;
}

static int take_word(dc_cli *cli, const char *word, dc_error *err)
{
    const dc_command *c = cli->command;
    const int recipe = c->takes == DC_TAKES_RECIPE || c->takes == DC_TAKES_RECIPE_MAYBE;
    if (recipe && is_override(word)) cli->overrides[cli->n_overrides++] = word;
    else if (recipe && !cli->recipe) cli->recipe = word;
    else if (c->takes == DC_TAKES_WORDS) cli->words[cli->n_words++] = word;
    else
        return dc_fail(err, DC_EUSAGE, "decant %s: '%s' is one word too many; decant %s --help tells what it takes",
                       c->name, word, c->name);
    return DC_OK;
}

int dc_cli_parse(dc_cli *cli, const dc_command *command, int argc, const char *const *argv, dc_error *err)
{
    int rc = DC_OK, flags_end = 0;
    const size_t room = (size_t)argc + 1;
    *cli = (dc_cli){.command = command};
    cli->values = dc_calloc(n_flags(command) + 1, sizeof *cli->values);
    cli->words = dc_calloc(room, sizeof *cli->words);
    cli->overrides = dc_calloc(room, sizeof *cli->overrides);
    if (!cli->values || !cli->words || !cli->overrides)
        return dc_fail_memory(err, room * sizeof *cli->words, "the command line");
    for (int i = 0; rc == DC_OK && i < argc; i++) {
        if (!flags_end && !strcmp(argv[i], "--")) flags_end = 1;
        else if (!flags_end && argv[i][0] == '-' && argv[i][1]) rc = take_flag(cli, argc, argv, &i, err);
        else rc = take_word(cli, argv[i], err);
    }
    if (rc == DC_OK && command->takes == DC_TAKES_RECIPE && !cli->recipe && !cli->help)
        rc = dc_fail(err, DC_EUSAGE, "decant %s needs a recipe: decant %s RECIPE.yaml", command->name, command->name);
    return rc;
}

void dc_cli_release(dc_cli *cli)
{
    dc_free(cli->values);
    dc_free(cli->words);
    dc_free(cli->overrides);
    *cli = (dc_cli){0};
}

const char *dc_cli_get(const dc_cli *cli, const char *flag)
{
    for (size_t i = 0; i < n_flags(cli->command); i++)
        if (!strcmp(cli->command->flags[i].name, flag)) return cli->values[i];
    DC_ASSERT(!"a flag of the command");
    return NULL;
}

int dc_cli_real(double *out, const dc_cli *cli, const char *flag, double fallback, double low, double high,
                dc_error *err)
{
    const char *text = dc_cli_get(cli, flag);
    char *end;
    *out = fallback;
    if (!text) return DC_OK;
    *out = strtod(text, &end);
    if (end == text || *end || !(*out >= low && *out <= high))
        return dc_fail(err, DC_EUSAGE, "decant %s: %s must be a number from %g to %g, not '%s'", cli->command->name,
                       flag, low, high, text);
    return DC_OK;
}

int dc_cli_int(long long *out, const dc_cli *cli, const char *flag, long long fallback, long long low, long long high,
               dc_error *err)
{
    const char *text = dc_cli_get(cli, flag);
    char *end;
    *out = fallback;
    if (!text) return DC_OK;
    *out = strtoll(text, &end, 10);
    if (end == text || *end || *out < low || *out > high)
        return dc_fail(err, DC_EUSAGE, "decant %s: %s must be a whole number from %lld to %lld, not '%s'",
                       cli->command->name, flag, low, high, text);
    return DC_OK;
}

int dc_cli_need(const char **out, const dc_cli *cli, const char *flag, dc_error *err)
{
    *out = dc_cli_get(cli, flag);
    if (*out) return DC_OK;
    return dc_fail(err, DC_EUSAGE, "decant %s needs %s; see decant %s --help", cli->command->name, flag,
                   cli->command->name);
}
