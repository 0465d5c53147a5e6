#include "base/map.h"
#include "base/mem.h"
#include "server/runs/call.h"
#include <pthread.h>

struct call_routes {
	pthread_mutex_t mtx; /* a leaf, but for the inboxes' own locks */
	struct map *inboxes; /* call id -> mailbox, a reference */
};

struct call_routes *call_routes_new(void)
{
	struct call_routes *r = NEW(struct call_routes);

	pthread_mutex_init(&r->mtx, NULL);
	r->inboxes = map_new();
	return r;
}

void call_routes_free(struct call_routes **rp)
{
	struct call_routes *r = TAKE(*rp);

	if (r == NULL)
		return;
	ENSURE(map_count(r->inboxes) == 0); /* the loops that had calls are gone */
	map_free(&r->inboxes);
	pthread_mutex_destroy(&r->mtx);
	free(r);
}

void call_routes_add(struct call_routes *r, const char *call_id, struct mailbox *inbox)
{
	struct mailbox *before;

	pthread_mutex_lock(&r->mtx);
	before = map_put(r->inboxes, call_id, mailbox_ref(inbox));
	pthread_mutex_unlock(&r->mtx);
	mailbox_free(&before);
}

void call_routes_remove(struct call_routes *r, const char *call_id)
{
	struct mailbox *inbox;

	pthread_mutex_lock(&r->mtx);
	inbox = map_remove(r->inboxes, call_id);
	pthread_mutex_unlock(&r->mtx);
	mailbox_free(&inbox);
}

bool call_routes_pass(struct call_routes *r, struct fleet_msg **mp)
{
	struct fleet_msg *m = *mp;
	struct mailbox *inbox;
	int rc = OK;

	if (m->call_id == NULL)
		return false;
	pthread_mutex_lock(&r->mtx);
	inbox = map_get(r->inboxes, m->call_id);
	/* Output may be left out when a loop does not keep up, as the hub does; an end must arrive. */
	if (inbox != NULL)
		rc = m->kind == FLEET_OUTPUT ? mailbox_post(inbox, m) : mailbox_post_always(inbox, m);
	pthread_mutex_unlock(&r->mtx);
	if (inbox == NULL)
		return false;
	if (rc != OK)
		fleet_msg_free(&m);
	*mp = NULL;
	return true;
}
