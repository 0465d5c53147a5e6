/* oauth/oauth_priv.h: for this folder only. */
#pragma once
#include "server/oauth/oauth.h"

#define OAUTH_DOCUMENT_MAX ((size_t)64 * 1024)
#define OAUTH_MS 10000
