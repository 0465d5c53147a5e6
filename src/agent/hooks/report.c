/* Sources of hooks for people and programs. */
#include "agent/hooks/config.h"
#include <string.h>

static json_t *entry_json(const struct hook_entry *h)
{
	json_t *j = json_object();

	json_put(j, "event", hook_event_name(h->event));
	json_put_new(j, "command", json_lossy(h->command, strlen(h->command)));
	json_put(j, "matcher", h->pattern);
	json_put_int(j, "timeoutMs", h->timeout_ms);
	json_put_bool(j, "failClosed", h->fail_closed);
	if (hook_event_follows_up(h->event))
		json_put_new(j, "loopLimit", h->loop_limit < 0 ? json_null() : json_integer(h->loop_limit));
	return j;
}

json_t *hook_source_json(const struct hook_source *s)
{
	json_t *j = json_object(), *entries = json_array();

	json_put(j, "source", hook_rank_name(s->rank));
	json_put_new(j, "file", json_lossy(s->file, strlen(s->file)));
	json_put_bool(j, "valid", !s->invalid);
	for (size_t k = 0; k < s->n; k++)
		json_array_append_new(entries, entry_json(&s->entries[k]));
	json_put_new(j, "hooks", entries);
	json_put_new(j, "warnings", json_incref(s->warnings));
	return j;
}
