/* triggers/hubs_priv.h: what the surfaces of the forges share. */
#pragma once
#include "server/forges/forges.h"
#include "server/triggers/surface.h"

#define HUB_MARK "<!-- bullpen "
#define HUB_KEYS (TRIGGER_SELF_HOSTED | TRIGGER_POOL | TRIGGER_WORKER | TRIGGER_BRANCH | TRIGGER_MODEL | TRIGGER_AUTOPR)

/* At most `max` bytes of a text; "" if there is none; malloc'ed. */
char *field_copy(const json_t *o, const char *key, size_t max);
/* Whether an event of GitHub or Gitea may start anything. */
bool hub_event_is_of_use(const struct trigger_settings *s, const char *event, const char *action);

/* handed.c: what the event of an issue hands over, as far as it says so itself; and, once the forge can be asked,
 * whether it was to us: ERR_EMPTY with why: no. */
enum handed hub_handed(const struct trigger_settings *s, enum forge_kind kind, const json_t *body);
enum handed gitlab_handed(const struct trigger_settings *s, const json_t *body);
/* Whether that account is a new assignee. */
bool hub_handed_to(const json_t *body, const char *login);
bool gitlab_handed_to(const json_t *body, const char *login);
int handed_look(struct forge_call *call, const json_t *body, const struct asked *a, struct why *why) MUST_USE;
char *handed_text(const char *repo, int64_t number); /* the prompt; malloc'ed */
/* NULL: it is not in the settings any more. */
struct forge *thread_forge(struct triggers *t, enum forge_kind kind, const char *host);
/* surface.look and surface.tell of each. */
int thread_look(struct triggers *t, const struct inbox_row *row, const json_t *body, struct asked *a,
    int64_t deadline_mono_ms, struct why *why) MUST_USE;
int thread_tell(struct triggers *t, const char *place, struct told *told, struct why *why) MUST_USE;
