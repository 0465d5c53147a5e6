/* base/folder.h: folders of our own.
 * Thread: any. */
#pragma once
#include "base/errors.h"

/* mkdir -p: what is new is private to the user. ERR_… with `why` (may be NULL). */
int folder_make(const char *path, struct why *why) MUST_USE;
