/* base/subagent_name.h: what a subagent may be called; names are compared without regard to case. Thread: any. */
#pragma once
#include "base/macros.h"

/* Whether nobody may give one this name: it is built in, or will be, or would be taken for something else. */
bool subagent_is_reserved(const char *name);
/* 1 to 64 letters, digits, _ and -, beginning with a letter or a digit. */
bool subagent_is_name(const char *name);
