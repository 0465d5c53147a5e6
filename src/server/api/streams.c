/* A place is given back with the exchange, not with the end of its response: until then it costs memory. */
#include "server/api/streams.h"
#include "base/map.h"
#include "base/mem.h"
#include <pthread.h>

struct streams {
	pthread_mutex_t mtx;
	struct map *owners; /* owner -> struct owner, while it has any */
};

struct owner {
	struct streams *of;
	int64_t n;
	char *name;
};

struct streams *streams_new(void)
{
	struct streams *s = NEW(struct streams);

	pthread_mutex_init(&s->mtx, NULL);
	s->owners = map_new();
	return s;
}

static void owner_free(struct owner *o)
{
	free(o->name);
	free(o);
}

void streams_free(struct streams **sp)
{
	struct streams *s = TAKE(*sp);
	size_t at = 0;
	const char *name;
	void *value;

	if (s == NULL)
		return;
	while (map_next(s->owners, &at, &name, &value))
		owner_free(value);
	map_free(&s->owners);
	pthread_mutex_destroy(&s->mtx);
	free(s);
}

static void give_place_back(void *ctx)
{
	struct owner *o = ctx;
	struct streams *s = o->of;

	pthread_mutex_lock(&s->mtx);
	if (--o->n == 0) {
		map_remove(s->owners, o->name);
		owner_free(o);
	}
	pthread_mutex_unlock(&s->mtx);
}

bool streams_take(struct streams *s, const char *owner, int64_t max, struct http_exchange *x)
{
	struct owner *o;
	bool ok;

	pthread_mutex_lock(&s->mtx);
	o = map_get(s->owners, owner);
	ok = max > 0 && (o == NULL || o->n < max);
	if (ok && o == NULL) {
		o = NEW(struct owner);
		*o = (struct owner){.of = s, .name = str_dup(owner)};
		map_put(s->owners, owner, o);
	}
	if (ok)
		o->n++;
	pthread_mutex_unlock(&s->mtx);
	if (ok)
		http_on_free(x, give_place_back, o);
	return ok;
}
