/* cli/main.c -- the program: finds the command, runs it, tells how it ended. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/command.h"
#include "core/log.h"
#include "core/stop.h"

static int exit_code(int rc)
{
    switch (rc) {
    case DC_OK: return 0;
    case DC_EUSAGE: return 2;
    case DC_ESTOPPED: return 75;
    default: return 1;
    }
}

/* The last thing a command does: a full disk behind the standard output must not look like success. */
static int flush_output(dc_error *err)
{
    return fflush(stdout) || ferror(stdout) ? dc_fail_errno(err, "write", "the standard output") : DC_OK;
}

static int end(int rc, const dc_error *err)
{
    if (rc != DC_OK) fprintf(stderr, "%s\n", err->message);
    return exit_code(rc);
}

static int say_overview(void)
{
    dc_error err = {0};
    dc_str out = {0};
    dc_help_overview(&out);
    fputs(dc_str_text(&out), stdout);
    dc_str_release(&out);
    return end(flush_output(&err), &err);
}

static int unknown_command(const char *name)
{
    const char *names[64];
    size_t n = 0;
    for (; dc_commands[n] && n < 63; n++) names[n] = dc_commands[n]->name;
    names[n] = NULL;
    const char *near = dc_nearest(name, names);
    fprintf(stderr, "decant: there is no command '%s'%s%s%s; decant --help lists them\n", name,
            near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    return 2;
}

static int run_command(const dc_command *command, int argc, const char *const *argv)
{
    dc_error err = {0};
    dc_cli cli;
    int rc = dc_cli_parse(&cli, command, argc, argv, &err);
    if (rc == DC_OK && cli.help) {
        dc_str out = {0};
        dc_help_command(&out, command);
        fputs(dc_str_text(&out), stdout);
        dc_str_release(&out);
    } else if (rc == DC_OK) {
        rc = command->run(&cli, &err);
    }
    if (rc == DC_OK) rc = flush_output(&err);
    dc_cli_release(&cli);
    return end(rc, &err);
}

/* OpenMP's threads wait by spinning for milliseconds, which on a machine with other work makes small steps ten times slower, and its
 * runtime reads how long from the environment before main. So the program starts itself again with a short spin, unless told. */
static void choose_wait(char **argv)
{
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT")) return;
    if (setenv("GOMP_SPINCOUNT", "10000", 1) == 0) execv("/proc/self/exe", argv);
}

int main(int argc, char **argv)
{
    choose_wait(argv);
    dc_stop_install();
    dc_log_set_level(DC_LOG_INFO);
    if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) return say_overview();
    if (!strcmp(argv[1], "--version")) {
        puts("decant " DC_VERSION);
        return 0;
    }
    const dc_command *command = dc_command_find(argv[1]);
    return command ? run_command(command, argc - 2, (const char *const *)argv + 2) : unknown_command(argv[1]);
}
