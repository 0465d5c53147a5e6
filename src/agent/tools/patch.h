/* agent/tools/patch.h: applying a patch for one file to its text. Two forms are known: the unified diff ("@@ -1,3 +1,4
 * @@", with or without file headers), and the envelope "*** Begin Patch / *** Update File: PATH / @@ / *** End Patch".
 * Thread: any. Knows no files.
 *
 * Context and removed lines must be in the text exactly as they are in the patch; stated line numbers say where to look
 * first, stated counts are not trusted. A hunk that fits at its number is taken there, one behind an anchor at the
 * first place behind it (if the anchor itself is no matter of doubt); else it must fit at one place only. Hunks come in
 * the order of the file. */
#pragma once
#include "agent/session/workspace.h"

enum patch_op { PATCH_KEEP = ' ', PATCH_REMOVE = '-', PATCH_ADD = '+' };

struct patch_line {
	enum patch_op op;
	const char *s; /* without line end; borrowed from the patch */
	size_t len;
	bool no_newline; /* "\ No newline at end of file" follows */
};

struct patch_hunk {
	size_t first, n; /* lines of the patch */
	size_t old_start; /* 1-based as stated; 0: not stated, or before the first line */
	bool numbered; /* "@@ -a,b +c,d @@" */
	bool inserts; /* numbered, and says that it takes no old lines */
	bool at_end; /* "*** End of File" */
	const char *anchor; /* "@@ some line": the hunk is behind it; NULL: none */
	size_t anchor_len;
};

struct patch {
	char *text; /* what the pointers lead into */
	char *path; /* as the patch names the file; NULL if it does not */
	bool creates; /* from /dev/null, or "*** Add File" */
	struct patch_line *lines;
	size_t n_lines, cap_lines;
	struct patch_hunk *hunks;
	size_t n_hunks, cap_hunks;
};

/* Refusals: "invalid_patch" (malformed, several files, deletes or renames the file), "too_large". */
int patch_parse(const char *text, struct patch *ret, struct refusal *r) MUST_USE;
void patch_fini(struct patch *p);

/* All hunks, or nothing. A text whose lines all end in CRLF keeps them, whatever the patch has. Refusals: "no_match"
 * with the line that differs, "not_unique", "too_large" (also: too much to compare). *ret is malloc'ed. */
int patch_apply(const struct patch *p, const char *text, size_t max, char **ret, struct refusal *r) MUST_USE;
