/* tests/cli/test_args.c -- parsing of command lines, the table of commands, what a shell completes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "core/arena.h"

static int nothing(dc_cli *cli, dc_error *err)
{
    (void)cli, (void)err;
    return DC_OK;
}

static const dc_flag flags[] = {
    {"--model", "M", "a model"}, {"--limit", "N", "a number"}, {"--force", NULL, "a switch"}, {NULL, NULL, NULL}};
static const dc_command with_recipe = {.name = "cook", .takes = DC_TAKES_RECIPE, .flags = flags, .run = nothing};
static const dc_command maybe = {.name = "maybe", .takes = DC_TAKES_RECIPE_MAYBE, .flags = flags, .run = nothing};
static const dc_command with_words = {
    .name = "say", .takes = DC_TAKES_WORDS, .words = "TEXT", .flags = flags, .run = nothing};
static const dc_command bare = {.name = "bare", .takes = DC_TAKES_NONE, .run = nothing};

/* Parses the words up to NULL. */
static int parse(dc_cli *cli, const dc_command *c, const char *const *words, dc_error *err)
{
    int n = 0;
    while (words[n]) n++;
    *err = (dc_error){0};
    return dc_cli_parse(cli, c, n, words, err);
}

#define PARSE(cli, command, err, ...) parse(cli, command, (const char *const[]){__VA_ARGS__, NULL}, err)

static void flags_stand_anywhere(void **state)
{
    dc_cli cli;
    dc_error err;
    (void)state;
    assert_int_equal(PARSE(&cli, &with_recipe, &err, "--model", "a b", "my.yaml", "train.lr=1", "--force",
                           "x[0].y-z=--limit", "--limit=7"),
                     DC_OK);
    assert_string_equal(cli.recipe, "my.yaml");
    assert_int_equal(cli.n_overrides, 2);
    assert_string_equal(cli.overrides[0], "train.lr=1");
    assert_string_equal(cli.overrides[1], "x[0].y-z=--limit");
    assert_string_equal(dc_cli_get(&cli, "--model"), "a b");
    assert_string_equal(dc_cli_get(&cli, "--force"), "");
    assert_string_equal(dc_cli_get(&cli, "--limit"), "7");
    assert_int_equal(cli.json, 0);
    dc_cli_release(&cli);
    dc_cli_release(&cli);
}

static void what_everybody_has(void **state)
{
    dc_cli cli;
    dc_error err;
    (void)state;
    assert_int_equal(PARSE(&cli, &bare, &err, "--json"), DC_OK);
    assert_int_equal(cli.json, 1);
    dc_cli_release(&cli);
    assert_int_equal(PARSE(&cli, &with_recipe, &err, "-h"), DC_OK); /* help needs no recipe */
    assert_int_equal(cli.help, 1);
    dc_cli_release(&cli);
}

static void words_and_their_end(void **state)
{
    dc_cli cli;
    dc_error err;
    (void)state;
    assert_int_equal(PARSE(&cli, &with_words, &err, "a=b", "-", "--", "--force", "--"), DC_OK);
    assert_int_equal(cli.n_words, 4);
    assert_string_equal(cli.words[0], "a=b");
    assert_string_equal(cli.words[1], "-");
    assert_string_equal(cli.words[2], "--force");
    assert_string_equal(cli.words[3], "--");
    assert_null(dc_cli_get(&cli, "--force"));
    dc_cli_release(&cli);
}

/* A path that holds a '=' is a recipe, no override. */
static void a_path_is_no_override(void **state)
{
    dc_cli cli;
    dc_error err;
    (void)state;
    assert_int_equal(PARSE(&cli, &maybe, &err, "runs/lr=1/my.yaml"), DC_OK);
    assert_string_equal(cli.recipe, "runs/lr=1/my.yaml");
    assert_int_equal(cli.n_overrides, 0);
    dc_cli_release(&cli);
    assert_int_equal(PARSE(&cli, &maybe, &err, "--force"), DC_OK);
    assert_null(cli.recipe);
    dc_cli_release(&cli);
}

static void refuses(const dc_command *c, const char *expected, const char *const *words)
{
    dc_cli cli;
    dc_error err;
    assert_int_equal(parse(&cli, c, words, &err), DC_EUSAGE);
    if (!strstr(err.message, expected)) fail_msg("'%s' is not in '%s'", expected, err.message);
    dc_cli_release(&cli);
}

#define REFUSES(command, expected, ...) refuses(command, expected, (const char *const[]){__VA_ARGS__, NULL})

static void refusals_say_what_to_do(void **state)
{
    (void)state;
    REFUSES(&maybe, "did you mean '--model'", "--modl", "x");
    REFUSES(&maybe, "did you mean '--json'", "--jsno");
    REFUSES(&maybe, "unknown flag '--quux'; decant maybe --help lists them", "--quux");
    REFUSES(&maybe, "--model needs a value: M", "--model");
    REFUSES(&maybe, "--force takes no value", "--force=1");
    REFUSES(&maybe, "'b.yaml' is one word too many", "a.yaml", "b.yaml");
    REFUSES(&bare, "'x' is one word too many", "x");
    REFUSES(&with_recipe, "needs a recipe: decant cook RECIPE.yaml", "a.b=1");
    REFUSES(&maybe, "unknown flag", "--a-flag-that-is-longer-than-any-that-a-command-could-ever-have-had=1");
}

static void numbers(void **state)
{
    dc_cli cli;
    dc_error err;
    long long n;
    double x;
    (void)state;
    assert_int_equal(PARSE(&cli, &maybe, &err, "--limit", "12", "--model", "0.5"), DC_OK);
    assert_int_equal(dc_cli_int(&n, &cli, "--limit", 3, 0, 12, &err), DC_OK);
    assert_int_equal(n, 12);
    assert_int_equal(dc_cli_int(&n, &cli, "--limit", 3, 0, 11, &err), DC_EUSAGE);
    assert_non_null(strstr(err.message, "--limit must be a whole number from 0 to 11, not '12'"));
    assert_int_equal(dc_cli_int(&n, &cli, "--model", 3, 0, 11, NULL), DC_EUSAGE); /* 0.5 is no whole number */
    assert_int_equal(dc_cli_real(&x, &cli, "--model", 3, 0, 1, &err), DC_OK);
    assert_true(x == 0.5);
    dc_cli_release(&cli);
    assert_int_equal(PARSE(&cli, &maybe, &err, "--model", "nan"), DC_OK);
    assert_int_equal(dc_cli_int(&n, &cli, "--limit", 3, 5, 9, &err), DC_OK); /* the default need not lie in the range */
    assert_int_equal(n, 3);
    assert_int_equal(dc_cli_real(&x, &cli, "--model", 3, 0, 1, NULL), DC_EUSAGE);
    dc_cli_release(&cli);
}

static void needed_flags(void **state)
{
    dc_cli cli;
    dc_error err;
    const char *value;
    (void)state;
    assert_int_equal(PARSE(&cli, &maybe, &err, "--force"), DC_OK);
    assert_int_equal(dc_cli_need(&value, &cli, "--model", &err), DC_EUSAGE);
    assert_non_null(strstr(err.message, "needs --model"));
    dc_cli_release(&cli);
}

static void memory_may_run_out(void **state)
{
    dc_cli cli;
    dc_error err;
    int rc = DC_ENOMEM;
    (void)state;
    for (long at = 1; rc != DC_OK; at++) {
        assert_in_range(at, 1, 10);
        dc_alloc_fail_at(at);
        rc = PARSE(&cli, &maybe, &err, "--model", "m");
        dc_alloc_fail_at(0);
        assert_true(rc == DC_OK || rc == DC_ENOMEM);
        dc_cli_release(&cli);
    }
}

/* ---- the table ---- */

static void every_command_can_be_found_and_explained(void **state)
{
    (void)state;
    for (size_t i = 0; dc_commands[i]; i++) {
        const dc_command *c = dc_commands[i];
        dc_str out = {0}, overview = {0};
        assert_ptr_equal(dc_command_find(c->name), c);
        assert_non_null(c->run);
        assert_non_null(c->summary);
        assert_true(c->takes != DC_TAKES_WORDS || c->words);
        for (const dc_flag *f = c->flags; f && f->name; f++) {
            assert_int_equal(strncmp(f->name, "--", 2), 0);
            assert_true(strlen(f->name) < 64); /* args.c keeps them in that */
            assert_non_null(f->help);
        }
        dc_help_command(&out, c);
        assert_non_null(strstr(dc_str_text(&out), c->summary));
        dc_help_overview(&overview); /* its group must be one of help.c's */
        assert_non_null(strstr(dc_str_text(&overview), c->summary));
        dc_str_release(&out);
        dc_str_release(&overview);
    }
    assert_null(dc_command_find("runn"));
    assert_null(dc_command_find(""));
}

static void completion_comes_from_the_table(void **state)
{
    dc_str out = {0};
    (void)state;
    dc_help_complete(&out, NULL);
    for (size_t i = 0; dc_commands[i]; i++) assert_non_null(strstr(dc_str_text(&out), dc_commands[i]->name));
    dc_str_clear(&out);
    dc_help_complete(&out, dc_command_find("export"));
    assert_non_null(strstr(dc_str_text(&out), "--parity-data\n"));
    assert_non_null(strstr(dc_str_text(&out), "lora.r=\n"));
    dc_str_clear(&out);
    dc_help_complete(&out, dc_command_find("doctor"));
    assert_string_equal(dc_str_text(&out), "--json\n--help\n");
    dc_str_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flags_stand_anywhere),
        cmocka_unit_test(what_everybody_has),
        cmocka_unit_test(words_and_their_end),
        cmocka_unit_test(a_path_is_no_override),
        cmocka_unit_test(refusals_say_what_to_do),
        cmocka_unit_test(numbers),
        cmocka_unit_test(needed_flags),
        cmocka_unit_test(memory_may_run_out),
        cmocka_unit_test(every_command_can_be_found_and_explained),
        cmocka_unit_test(completion_comes_from_the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
