/* How many connections each peer address has. The lock is held for a look-up only. */
#include "base/map.h"
#include "base/mem.h"
#include "net/http_priv.h"
#include <string.h>

#define KEY_LEN 33

struct peers {
	pthread_mutex_t lock;
	struct map *counts; /* key -> number, as a pointer that points nowhere */
	unsigned max;
};

/* A peer with one IPv6 address has the 2^64 of its network. */
static void peers_key_of(const struct in6_addr *a, char key[KEY_LEN])
{
	size_t n = IN6_IS_ADDR_V4MAPPED(a) ? 16 : 8;

	for (size_t i = 0; i < n; i++)
		snprintf(key + 2 * i, 3, "%02x", a->s6_addr[i]);
}

struct peers *peers_new(unsigned max)
{
	struct peers *p = NEW(struct peers);

	pthread_mutex_init(&p->lock, NULL);
	p->counts = map_new();
	p->max = max;
	return p;
}

void peers_free(struct peers **pp)
{
	struct peers *p = TAKE(*pp);

	if (p == NULL)
		return;
	pthread_mutex_destroy(&p->lock);
	map_free(&p->counts);
	free(p);
}

bool peers_enter(struct peers *p, const struct in6_addr *address)
{
	char key[KEY_LEN] = "";
	uintptr_t n;
	bool fits;

	peers_key_of(address, key);
	pthread_mutex_lock(&p->lock);
	n = (uintptr_t)map_get(p->counts, key);
	fits = n < p->max;
	if (fits)
		map_put(p->counts, key, (void *)(n + 1));
	pthread_mutex_unlock(&p->lock);
	return fits;
}

void peers_leave(struct peers *p, const struct in6_addr *address)
{
	char key[KEY_LEN] = "";
	uintptr_t n;

	peers_key_of(address, key);
	pthread_mutex_lock(&p->lock);
	n = (uintptr_t)map_get(p->counts, key);
	ENSURE(n > 0);
	if (n == 1)
		map_remove(p->counts, key);
	else
		map_put(p->counts, key, (void *)(n - 1));
	pthread_mutex_unlock(&p->lock);
}
