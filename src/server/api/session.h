/* api/session.h: the cookie of a browser's session. */
#pragma once
#include "server/api/api_priv.h"

/* The value of Set-Cookie, malloc'ed. HttpOnly: no script reads it. Strict: no other site's page sends it along. */
char *session_cookie(const struct api_request *rq, const char *value, int64_t seconds);
/* Whether browsers reach us by https, so that cookies are for that only. */
bool session_is_secure(const struct api_request *rq);
