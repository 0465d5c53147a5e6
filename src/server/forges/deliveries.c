/* Events that GitHub could not deliver: it tries once and never again by itself. docs.github.com, "Redelivering
 * webhooks"; only apps can ask for it with the credential that they have. */
#include "base/clock.h"
#include "base/mem.h"
#include "server/forges/forges_priv.h"
#include <string.h>

bool forge_is_app(const struct forge *f)
{
	return f->app != NULL;
}

static int ask_as_app(struct forge_call *c, const char *method, const char *path, struct forge_answer *ret)
{
	AUTO_STR jwt = forge_app_jwt(c->forge->app, -1);
	AUTO_STR auth = str_printf("Bearer %s", jwt);

	return forge_ask_as(c, auth, method, path, NULL, ret);
}

/* Everything that was tried for one event is under its GUID; the newest comes first. */
static void note_attempt(json_t *events, const json_t *e)
{
	const char *guid = json_word(e, "guid");
	int64_t status = forge_number(e, "status_code");
	json_t *of = json_object_get(events, guid);

	if (guid[0] == '\0' || forge_number(e, "id") <= 0)
		return;
	if (of == NULL) {
		AUTO_STR event = forge_text(e, "event", 64);
		AUTO_STR action = forge_text(e, "action", 64);

		of = json_pack(
		    "{s:I, s:s, s:s}", "id", (json_int_t)forge_number(e, "id"), "event", event, "action", action);
		json_object_set_new(events, guid, of);
	}
	json_put_int(of, "attempts", forge_number(of, "attempts") + 1);
	/* What was refused for its form is no better the next time. */
	if ((status >= 200 && status < 300) || status == 400 || status == 413)
		json_put_bool(of, "settled", true);
}

/* True: the rest is older than that. */
static bool note_page(json_t *events, const json_t *page, int64_t since_ms)
{
	const json_t *e;
	size_t i;

	json_array_foreach((json_t *)page, i, e)
	{
		int64_t at = 0;

		if (clock_read_iso8601(json_word(e, "delivered_at"), &at) == OK && at < since_ms)
			return true;
		note_attempt(events, e);
	}
	return json_array_size(page) == 0;
}

int forge_deliveries_failed(struct forge_call *c, int64_t since_ms, int64_t attempts_max, json_t **ret)
{
	AUTO_JSON events = json_object();
	AUTO_STR cursor = NULL;
	const char *guid;
	json_t *e;
	bool more = true;

	for (int i = 0; more && i < FORGE_PAGES_MAX; i++) {
		AUTO_FINI(forge_answer) a = {0};
		AUTO_STR path = str_printf("/app/hook/deliveries?per_page=%d%s%s", FORGE_PAGE,
		    cursor != NULL ? "&cursor=" : "", cursor != NULL ? cursor : "");
		int rc = ask_as_app(c, "GET", path, &a);

		if (rc != OK)
			return rc;
		if (!json_is_array(a.json))
			return why_set(&c->why, ERR_PROTOCOL, "%s gave no list of deliveries", c->forge->host);
		more = !note_page(events, a.json, since_ms) && a.cursor != NULL;
		free(cursor);
		cursor = TAKE(a.cursor);
	}
	*ret = json_array();
	json_object_foreach(events, guid,
	    e) if (!json_is_true(json_object_get(e, "settled")) && forge_number(e, "attempts") < attempts_max)
	    json_array_insert(*ret, 0, e);
	return OK;
}

int forge_redeliver(struct forge_call *c, int64_t id)
{
	AUTO_FINI(forge_answer) a = {0};
	AUTO_STR path = str_printf("/app/hook/deliveries/%lld/attempts", (long long)id);

	return ask_as_app(c, "POST", path, &a);
}
