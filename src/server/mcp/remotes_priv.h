/* mcp/remotes_priv.h: for this folder only. */
#pragma once
#include "server/mcp/remotes.h"

#define CALLBACK_PATH "/agents/mcp/oauth/callback"
#define CLIENT_DOCUMENT_PATH "/.well-known/mcp-client.json"

struct remotes {
	struct store *store;
	const struct seal *seal;
	struct web_rules *rules;
	bool client_documents;
	char *base; /* without '/' at the end */
};
