/* net/advice.h: what to do about a connection that does not come about, in one place for all who dial.
 * Thread: any. */
#pragma once

/* The sentence for an answer that is not one of a control plane: another program, a proxy or a gateway. `where`: its
 * address, for people; content_type and body may be NULL. malloc'ed; nothing of the body is repeated. */
char *advice_not_ours(const char *where, int status, const char *content_type, const char *body);
