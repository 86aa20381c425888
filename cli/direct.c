/* cli/direct.c */
#include "cli/direct.h"

#include <string.h>

#include "core/arena.h"
#include "core/file.h"

int dc_direct_stage(dc_cli *cli, int (*stage)(const dc_session *s, dc_error *err), dc_error *err)
{
    dc_session s;
    for (const dc_flag *f = cli->command->flags; f->name; f++)
        if (strcmp(f->name, "--restart") && dc_cli_get(cli, f->name))
            return dc_fail(err, DC_EUSAGE, "decant %s: %s does not go with a recipe, which says all there is to say",
                           cli->command->name, f->name);
    int rc = dc_session_open(&s, cli, err);
    if (rc != DC_OK) return rc;
    s.restart = dc_cli_get(cli, "--restart") != NULL;
    rc = dc_session_agree(&s, dc_session_first(&s) ? stage(&s, err) : DC_OK, err);
    dc_session_close(&s, rc, err);
    return rc;
}

int dc_direct_check(const dc_cli *cli, dc_error *err)
{
    const char *name = cli->command->name;
    if (cli->n_overrides)
        return dc_fail(err, DC_EUSAGE, "decant %s: '%s' sets a key of a recipe, and none was given", name,
                       cli->overrides[0]);
    if (dc_cli_get(cli, "--restart")) return dc_fail(err, DC_EUSAGE, "decant %s: --restart goes with a recipe", name);
    if (!dc_cli_get(cli, "--model"))
        return dc_fail(err, DC_EUSAGE, "decant %s needs a recipe or --model; see decant %s --help", name, name);
    return DC_OK;
}

int dc_direct_target(const dc_cli *cli, const char *path, dc_error *err)
{
    dc_path_info there;
    const int rc = dc_path_look(&there, path, err);
    if (rc != DC_OK || !there.exists) return rc;
    if (!dc_cli_get(cli, "--force")) return dc_fail(err, DC_EUSAGE, "%s is there already; --force replaces it", path);
    if (!there.is_dir) return DC_OK;
    char *config = dc_path_join(path, "config.json");
    if (!config) return dc_fail_memory(err, strlen(path), "a path");
    const int is_model = dc_path_exists(config);
    dc_free(config);
    return is_model ? DC_OK
                    : dc_fail(err, DC_EUSAGE,
                              "%s is a directory without config.json, so no model: it is not replaced, --force or not",
                              path);
}
