/* mcp/eras.h: which servers turned out to speak the stateless revision, so that they are asked that way first the next
 * time. A bounded memory of the process: the oldest entry goes. Thread: any. */
#pragma once
#include "base/id.h"
#include <pthread.h>

#define MCP_ERAS_MAX 256

struct mcp_eras {
	pthread_mutex_t lock; /* a leaf */
	char keys[MCP_ERAS_MAX][SHA256_HEX_LEN];
	size_t n, next;
};
#define MCP_ERAS_INIT                                                                                                  \
	{                                                                                                              \
		.lock = PTHREAD_MUTEX_INITIALIZER                                                                      \
	}

/* `definition`: whatever is the same for the same server; only its hash is kept. */
bool mcp_eras_is_modern(struct mcp_eras *e, const char *definition);
void mcp_eras_note(struct mcp_eras *e, const char *definition, bool modern);
