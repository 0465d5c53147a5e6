/* api/fleet_cursor.h: places in the queue and among its events, as clients hold them: opaque, signed, and bound to the
 * team and the filters that they were given out for. Thread: any. */
#pragma once
#include "server/access/tokens.h"
#include "server/fleet/queue_rows.h"

#define CURSOR_KEY "cursor" /* the installation's key that they are signed with */
#define CURSOR_LIFE_MS ((int64_t)5 * 60 * 1000) /* from the list that began the chain */
#define CURSOR_FILTER_LEN 17

struct queue_cursor {
	int64_t team_id;
	int64_t seq; /* the event that was seen last */
	int64_t list_ms; /* when the list began */
	char filter[CURSOR_FILTER_LEN]; /* queue_filter_hash */
	struct queue_mark after; /* the last request of a page; agent_id NULL: it is a place among the events */
};
void queue_cursor_fini(struct queue_cursor *c);
/* malloc'ed. The same cursor is the same text. */
char *queue_cursor_make(const unsigned char key[INSTALLATION_KEY_LEN], const struct queue_cursor *c);
/* ERR_INVALID: it is none of ours. */
int queue_cursor_read(
    const unsigned char key[INSTALLATION_KEY_LEN], const char *text, struct queue_cursor *ret) MUST_USE;
void queue_filter_hash(const struct queue_filter *f, char ret[CURSOR_FILTER_LEN]);
/* Also one from the future, which a clock that was set back leaves behind. */
bool queue_cursor_is_over(const struct queue_cursor *c, int64_t now_ms);
