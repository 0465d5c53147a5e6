/* base/errors.h: the one way to report failure: OK or a negative code, plus a sentence for people.
 * Thread: any. Libraries return codes and fill `why`; only the edge (handler, run, main) logs. */
#pragma once
#include "base/macros.h"

enum {
	OK = 0,
#define ERROR_ROW(name, number, text) name = number,
#include "base/errors.tbl"
#undef ERROR_ROW
};

/* "ERR_EMPTY"; never NULL. */
const char *err_name(int code);
/* "nothing there"; never NULL. */
const char *err_text(int code);
/* Translates errno (positive) into one of ours. */
int err_from_errno(int errnum);

/* A sentence ready for the user, filled where the failure is understood. */
struct why {
	char text[512];
};
/* Sets the sentence (cut at the buffer's size; it may be made from the one before) and returns `code`, so that `return
 * why_set(...)` reads well. `why` may be NULL. */
int why_set(struct why *why, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
