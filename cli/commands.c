/* cli/commands.c -- the table of commands. */
#include <string.h>

#include "cli/command.h"

extern const dc_command dc_cmd_run, dc_cmd_prepare, dc_cmd_teach, dc_cmd_train, dc_cmd_merge, dc_cmd_export,
    dc_cmd_eval, dc_cmd_generate, dc_cmd_logits, dc_cmd_tokenize, dc_cmd_detokenize, dc_cmd_inspect, dc_cmd_report,
    dc_cmd_bench, dc_cmd_doctor, dc_cmd_help;

const dc_command *const dc_commands[] = {&dc_cmd_run,
                                         &dc_cmd_prepare,
                                         &dc_cmd_teach,
                                         &dc_cmd_train,
                                         &dc_cmd_merge,
                                         &dc_cmd_export,
                                         &dc_cmd_eval,
                                         &dc_cmd_generate,
                                         &dc_cmd_logits,
                                         &dc_cmd_tokenize,
                                         &dc_cmd_detokenize,
                                         &dc_cmd_inspect,
                                         &dc_cmd_report,
                                         &dc_cmd_bench,
                                         &dc_cmd_doctor,
                                         &dc_cmd_help,
                                         NULL};

const dc_command *dc_command_find(const char *name)
{
    for (size_t i = 0; dc_commands[i]; i++)
        if (!strcmp(dc_commands[i]->name, name)) return dc_commands[i];
    return NULL;
}
