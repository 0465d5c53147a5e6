/* What a store that several servers share can do besides; the driver does it. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "store/store_priv.h"

struct store_channel {
	const struct driver *driver;
	struct db_channel *channel;
};

bool store_is_shared(struct store *st)
{
	return store_watch_of(st)->driver->channel_open != NULL;
}

int tx_now(struct tx *tx, int64_t *ret_ms)
{
	OBJ_CHECK(tx, TX_MAGIC);
	if (tx->driver->now != NULL)
		return tx_query_int(tx, ret_ms, tx->driver->now, "");
	*ret_ms = clock_wall_ms();
	return OK;
}

int store_fence(struct store *st, const char *node_id, int64_t epoch)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(st, TX_WRITE, &tx);

	ENSURE(store_is_shared(st) && text_is_token(node_id, "._-", 255)); /* it goes into a statement */
	/* All write on this one connection. */
	if (rc == OK)
		tx->driver->fence(tx->db, node_id, epoch);
	return rc;
}

int store_channel_open(struct store *st, store_channel_fn *fn, void *ctx, struct store_channel **ret)
{
	const struct store_watch *w = store_watch_of(st);
	struct store_channel *c;
	int rc;

	if (!store_is_shared(st))
		return ERR_EMPTY;
	c = NEW(struct store_channel);
	c->driver = w->driver;
	rc = c->driver->channel_open(w->place, fn, ctx, &c->channel);
	if (rc != OK)
		free(c);
	else
		*ret = c;
	return rc;
}

void store_channel_send(struct store_channel *c, const char *text)
{
	c->driver->channel_send(c->channel, text);
}

void store_channel_close(struct store_channel **cp)
{
	struct store_channel *c = TAKE(*cp);

	if (c == NULL)
		return;
	c->driver->channel_close(&c->channel);
	free(c);
}
