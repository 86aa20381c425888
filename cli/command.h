/* cli/command.h -- one command a file: its name, flags and function, in one table that parsing, --help and docs/commands.md come from.
 *
 * Shape: decant COMMAND [RECIPE.yaml] [section.key=value ...] [--flags]. Exit codes: 0 done, 1 failed, 2 usage or recipe error, 75
 * stopped by a signal after a checkpoint. Machine-readable output goes to stdout, everything else to stderr. */
#ifndef DC_CLI_COMMAND_H
#define DC_CLI_COMMAND_H

#include <stddef.h>

#include "core/error.h"
#include "core/str.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_flag {
    const char *name;  /* "--model" */
    const char *value; /* "PATH": what it takes; NULL: a switch */
    const char *help;
} dc_flag;

typedef enum dc_takes { DC_TAKES_NONE, DC_TAKES_RECIPE, DC_TAKES_RECIPE_MAYBE, DC_TAKES_WORDS } dc_takes;

typedef struct dc_cli dc_cli;

typedef struct dc_command {
    const char *name;
    const char *group;   /* one of help.c's */
    const char *summary; /* one line */
    dc_takes takes;
    const char *words;    /* usage text of the words it takes: "FILE", or NULL */
    const dc_flag *flags; /* ended by a NULL name; --json and --help are everybody's */
    const char *sections; /* recipe sections it reads, "data tokenizer", or NULL */
    const char *examples; /* lines */
    int (*run)(dc_cli *cli, dc_error *err);
} dc_command;

/* All commands, ended by NULL: the order of the overview. */
extern const dc_command *const dc_commands[];
const dc_command *dc_command_find(const char *name);

/* What was typed, parsed against a command. */
struct dc_cli {
    const dc_command *command;
    const char *recipe;     /* NULL: none given */
    const char **overrides; /* "section.key=value" */
    size_t n_overrides;
    const char **words;
    size_t n_words;
    const char **values; /* by flag: NULL when not given, "" for a switch */
    int json, help;
};

/* Flags may stand anywhere, as --flag VALUE or --flag=VALUE; "--" ends them. Unknown ones are DC_EUSAGE with the nearest. */
int dc_cli_parse(dc_cli *cli, const dc_command *command, int argc, const char *const *argv, dc_error *err);
void dc_cli_release(dc_cli *cli);
/* The value of a flag of the command; NULL when not given. Asking for one that the command has not is our bug. */
const char *dc_cli_get(const dc_cli *cli, const char *flag);
/* The same as a number within [low, high]; `fallback` when not given. */
int dc_cli_int(long long *out, const dc_cli *cli, const char *flag, long long fallback, long long low, long long high,
               dc_error *err);
int dc_cli_real(double *out, const dc_cli *cli, const char *flag, double fallback, double low, double high,
                dc_error *err);
/* DC_EUSAGE when it was not given. */
int dc_cli_need(const char **out, const dc_cli *cli, const char *flag, dc_error *err);

/* Help texts. */
void dc_help_overview(dc_str *out);
void dc_help_command(dc_str *out, const dc_command *command);
void dc_help_markdown(dc_str *out); /* docs/commands.md */
/* What a shell may complete, one a line: the commands (NULL), or a command's flags and, where it takes a recipe, "section.key=". */
void dc_help_complete(dc_str *out, const dc_command *command);

#ifdef __cplusplus
}
#endif
#endif
