/* mcp/remotes_priv.h: for this folder only. */
#pragma once
#include "base/pool.h"
#include "mcp/eras.h"
#include "server/mcp/remotes.h"
#include <pthread.h>

#define CALLBACK_PATH "/agents/mcp/oauth/callback"
#define CLIENT_DOCUMENT_PATH "/.well-known/mcp-client.json"

struct remotes {
	struct store *store;
	const struct seal *seal;
	struct web_rules *rules;
	bool client_documents;
	struct mcp_eras eras;
	_Atomic(char *) base; /* without '/' at the end; set once, "" before */

	struct pool *openers; /* connect and list: they wait for servers */
	pthread_mutex_t lock; /* for the list, and what remote.c says of each; a leaf */
	pthread_cond_t cond;
	struct remote *all;
	bool closing, sweeping;
	atomic_bool stop;
};

const char *remotes_base(const struct remotes *r);

/* remote.c */
int remotes_begin(struct remotes *r) MUST_USE;
void remotes_end(struct remotes *r);
