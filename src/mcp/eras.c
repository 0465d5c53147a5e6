#include "mcp/eras.h"
#include "base/macros.h"
#include <string.h>

/* With the lock held; e->n: it is not there. */
static size_t find(const struct mcp_eras *e, const char *key)
{
	size_t i = 0;

	while (i < e->n && strcmp(e->keys[i], key) != 0)
		i++;
	return i;
}

bool mcp_eras_is_modern(struct mcp_eras *e, const char *definition)
{
	char key[SHA256_HEX_LEN];
	bool yes;

	sha256_hex(definition, strlen(definition), key);
	pthread_mutex_lock(&e->lock);
	yes = find(e, key) < e->n;
	pthread_mutex_unlock(&e->lock);
	return yes;
}

void mcp_eras_note(struct mcp_eras *e, const char *definition, bool modern)
{
	char key[SHA256_HEX_LEN];
	size_t at;

	sha256_hex(definition, strlen(definition), key);
	pthread_mutex_lock(&e->lock);
	at = find(e, key);
	if (modern && at == e->n) {
		if (e->n < MCP_ERAS_MAX)
			e->n++;
		memcpy(e->keys[e->next], key, sizeof key);
		e->next = (e->next + 1) % MCP_ERAS_MAX;
	} else if (!modern && at < e->n) {
		e->keys[at][0] = '\0'; /* its place is used again when its turn comes */
	}
	pthread_mutex_unlock(&e->lock);
}
