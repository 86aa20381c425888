/* cli/direct.h -- merge and export: they run a recipe's stage, or work on a model named by flags. */
#ifndef DC_CLI_DIRECT_H
#define DC_CLI_DIRECT_H

#include "cli/session.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Runs a stage of the command line's recipe. Flags other than --restart belong to the other form: DC_EUSAGE naming the first. */
int dc_direct_stage(dc_cli *cli, int (*stage)(const dc_session *s, dc_error *err), dc_error *err);
/* Without a recipe: --model must be given, overrides and --restart not. */
int dc_direct_check(const dc_cli *cli, dc_error *err);
/* DC_EUSAGE when `path` exists and --force was not given. A directory gives way only to a model: with --force it must hold a config.json. */
int dc_direct_target(const dc_cli *cli, const char *path, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
