/* Open addressing with linear probing; a removed entry leaves a tombstone that the next rebuild drops. */
#include "base/map.h"
#include "base/mem.h"
#include <sodium.h>
#include <string.h>

struct slot {
	char *key; /* NULL: never used, or removed if `dead` */
	void *value;
	bool dead;
};

struct map {
	struct slot *slots;
	size_t cap, used, live; /* used counts tombstones too */
	unsigned char seed[crypto_shorthash_KEYBYTES];
};

struct map *map_new(void)
{
	struct map *m = NEW(struct map);

	m->cap = 16;
	m->slots = mem_zalloc(m->cap * sizeof *m->slots);
	/* Keys come from peers: a secret seed keeps them from choosing collisions. */
	randombytes_buf(m->seed, sizeof m->seed);
	return m;
}

void map_free(struct map **mp)
{
	struct map *m = TAKE(*mp);

	if (m == NULL)
		return;
	for (size_t i = 0; i < m->cap; i++)
		free(m->slots[i].key);
	free(m->slots);
	free(m);
}

/* The slot that holds key, or the free one where it would go. */
static struct slot *slot_for(const struct map *m, const char *key)
{
	uint64_t h;
	struct slot *grave = NULL;

	crypto_shorthash((unsigned char *)&h, (const unsigned char *)key, strlen(key), m->seed);
	for (size_t i = (size_t)h & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
		struct slot *s = &m->slots[i];

		if (s->key == NULL && !s->dead)
			return grave != NULL ? grave : s;
		if (s->dead)
			grave = grave != NULL ? grave : s;
		else if (strcmp(s->key, key) == 0)
			return s;
	}
}

static void rebuild(struct map *m)
{
	struct slot *old = m->slots;
	size_t old_cap = m->cap;

	while (m->cap < m->live * 4)
		m->cap *= 2;
	m->slots = mem_zalloc(m->cap * sizeof *m->slots);
	m->used = m->live;
	for (size_t i = 0; i < old_cap; i++)
		if (old[i].key != NULL)
			*slot_for(m, old[i].key) = old[i];
	free(old);
}

void *map_get(const struct map *m, const char *key)
{
	struct slot *s = slot_for(m, key);

	return s->key != NULL ? s->value : NULL;
}

void *map_put(struct map *m, const char *key, void *value)
{
	struct slot *s;
	void *before = NULL;

	if ((m->used + 1) * 4 > m->cap * 3)
		rebuild(m);
	s = slot_for(m, key);
	if (s->key != NULL) {
		before = s->value;
	} else {
		m->used += !s->dead;
		m->live++;
		s->dead = false;
		s->key = str_dup(key);
	}
	s->value = value;
	return before;
}

void *map_remove(struct map *m, const char *key)
{
	struct slot *s = slot_for(m, key);

	if (s->key == NULL)
		return NULL;
	str_free(&s->key);
	s->dead = true;
	m->live--;
	return s->value;
}

size_t map_count(const struct map *m)
{
	return m->live;
}

bool map_next(const struct map *m, size_t *at, const char **ret_key, void **ret_value)
{
	for (; *at < m->cap; (*at)++) {
		struct slot *s = &m->slots[*at];

		if (s->key == NULL)
			continue;
		*ret_key = s->key;
		*ret_value = s->value;
		(*at)++;
		return true;
	}
	return false;
}
