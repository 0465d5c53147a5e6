#include "server/fleet/gate.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/text.h"
#include <arpa/inet.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>

#define CREDENTIAL_MAX 1024

struct gate {
	pthread_mutex_t lock;
	struct map *inside; /* key of a peer -> number, as a pointer that points nowhere */
	unsigned n, max, max_per_peer;
};

struct gate *gate_new(unsigned max, unsigned max_per_peer)
{
	struct gate *g = NEW(struct gate);

	pthread_mutex_init(&g->lock, NULL);
	g->inside = map_new();
	g->max = max;
	g->max_per_peer = max_per_peer;
	return g;
}

void gate_free(struct gate **gp)
{
	struct gate *g = TAKE(*gp);

	if (g == NULL)
		return;
	ENSURE(g->n == 0);
	map_free(&g->inside);
	pthread_mutex_destroy(&g->lock);
	free(g);
}

/* The address without its port. Whoever has an IPv6 address has the 2^64 of its network. */
static void gate_key_of(const char *peer, char key[GATE_KEY_LEN])
{
	const char *begin = peer[0] == '[' ? peer + 1 : peer, *end = strrchr(peer, peer[0] == '[' ? ']' : ':');
	struct in6_addr a;

	snprintf(key, GATE_KEY_LEN, "%.*s", (int)(end != NULL ? end - begin : (long)strlen(begin)), begin);
	if (inet_pton(AF_INET6, key, &a) != 1 || IN6_IS_ADDR_V4MAPPED(&a))
		return;
	memset(a.s6_addr + 8, 0, 8);
	IGNORE(inet_ntop(AF_INET6, &a, key, GATE_KEY_LEN));
}

int gate_enter(struct gate *g, const char *peer, char ret_key[GATE_KEY_LEN], struct why *why)
{
	char key[GATE_KEY_LEN];
	uintptr_t here;
	int rc = OK;

	gate_key_of(peer, key);
	pthread_mutex_lock(&g->lock);
	here = (uintptr_t)map_get(g->inside, key);
	if (g->max != 0 && g->n >= g->max)
		rc = why_set(why, ERR_FULL, "too many workers are registering at this moment, try again");
	else if (g->max_per_peer != 0 && here >= g->max_per_peer)
		rc = why_set(why, ERR_FULL, "too many workers are registering from this address, try again");
	if (rc == OK) {
		g->n++;
		map_put(g->inside, key, (void *)(here + 1));
	}
	pthread_mutex_unlock(&g->lock);
	if (rc == OK)
		memcpy(ret_key, key, GATE_KEY_LEN);
	return rc;
}

void gate_leave(struct gate *g, char key[GATE_KEY_LEN])
{
	uintptr_t here;

	if (key[0] == '\0')
		return;
	pthread_mutex_lock(&g->lock);
	here = (uintptr_t)map_get(g->inside, key);
	ENSURE(here > 0 && g->n > 0);
	g->n--;
	if (here == 1)
		map_remove(g->inside, key);
	else
		map_put(g->inside, key, (void *)(here - 1));
	pthread_mutex_unlock(&g->lock);
	key[0] = '\0';
}

bool gate_is_credential(const char *authorization)
{
	const char *rest;

	if (authorization == NULL || strlen(authorization) > CREDENTIAL_MAX)
		return false;
	if (strncasecmp(authorization, "Bearer ", 7) == 0)
		rest = authorization + 7;
	else if (strncasecmp(authorization, "Basic ", 6) == 0)
		rest = authorization + 6;
	else
		return false;
	rest += strspn(rest, " ");
	for (const char *c = rest; *c != '\0'; c++)
		if (*c <= ' ' || *c >= 0x7f)
			return false;
	return rest[0] != '\0';
}
