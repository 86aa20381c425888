/* cli/cmd_report.c -- report.html of a run's folder. */
#include <stdio.h>
#include <string.h>

#include "cli/open.h"
#include "cli/report.h"
#include "core/arena.h"
#include "core/file.h"

static int run(dc_cli *cli, dc_error *err)
{
    if (cli->n_words != 1)
        return dc_fail(err, DC_EUSAGE, "decant report takes the folder of one run; see decant report --help");
    const char *dir = cli->words[0], *given = dc_cli_get(cli, "--out");
    char *path = given ? dc_strdup(given) : dc_path_join(dir, "report.html");
    int rc = path ? dc_report_write(path, dir, err) : dc_fail_memory(err, strlen(dir), "a path");
    if (rc == DC_OK && cli->json) rc = dc_print_json(json_pack("{s:s}", "report", path), err);
    else if (rc == DC_OK) puts(path);
    dc_free(path);
    return rc;
}

static const dc_flag flags[] = {{"--out", "F.html", "where to write it (RUN_DIR/report.html)"}, {NULL, NULL, NULL}};

const dc_command dc_cmd_report = {.name = "report",
                                  .group = "look",
                                  .summary = "report.html of a run: table, curves, memory, parity, recipe",
                                  .takes = DC_TAKES_WORDS,
                                  .words = "RUN_DIR",
                                  .flags = flags,
                                  .examples = "  decant report runs/quickstart\n",
                                  .run = run};
