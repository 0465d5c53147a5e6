/* base/repo_url.h: what the address of a git remote says: whose repository it is, and on which host.
 * Thread: any. */
#pragma once
#include "base/macros.h"

/* "owner/name" (nested groups keep all segments), malloc'ed; NULL if the address yields none. *ret_host (may be NULL)
 * is the lowercase host without port, or "" for a local path; malloc'ed, set only together with a label. */
char *repo_url_label(const char *url, char **ret_host);
/* The same repository: labels alike without regard to ASCII case, hosts not known to differ. Addresses without a label
 * are compared as they are. */
bool repo_url_same(const char *a, const char *b);
/* Any text with the userinfo of every URL in it removed. malloc'ed. */
char *repo_url_redact(const char *text);
