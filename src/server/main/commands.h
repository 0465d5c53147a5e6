/* main/commands.h: the commands of `bullpen`. argv[0] is the command's name; the result is the exit status. */
#pragma once
#include "base/options.h"

int serve_main(int argc, char **argv);
int admin_main(int argc, char **argv);
/* One line on stderr; returns the exit status for usage errors. */
int usage_error(const char *fmt, ...) PRINTF_LIKE(1, 2);
