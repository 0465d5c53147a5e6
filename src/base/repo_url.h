/* base/repo_url.h: what the address of a git remote says: whose repository it is, and on which host.
 * Thread: any. */
#pragma once
#include "base/macros.h"

/* "owner/name" (nested groups keep all segments), malloc'ed; NULL if the address yields none, or if its user, host or
 * path begins with '-', which a program could take for an option. *ret_host (may be NULL) is the lowercase host without
 * port, or REPO_URL_LOCAL for a local path, which is the same as no host's repository; malloc'ed, set only together
 * with a label. */
#define REPO_URL_LOCAL "file:" /* no host can be called so */
char *repo_url_label(const char *url, char **ret_host);
/* The same repository: labels alike without regard to ASCII case, hosts not known to differ. Addresses without a label
 * are compared as they are. */
bool repo_url_same(const char *a, const char *b);
/* Any text with userinfo, query and fragment of every URL in it removed: what is there may be a token. malloc'ed. */
char *repo_url_redact(const char *text);
