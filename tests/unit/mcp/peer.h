/* An MCP server that is a list of rules: what it answers to which method. For the tests of this folder. */
#pragma once
#include "base/clock.h"
#include "base/mem.h"
#include "mcp/session.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
/* cmocka wants those first */
#include <cmocka.h>

#define TIMES ((struct mcp_times){200, 200, 100, 400, 100})

/* Answers a message at once, from within send(). */
struct peer {
	struct mcp_session *s;
	void (*on)(struct peer *p, const char *method, int64_t id, const json_t *msg);
	char *sent[64];
	size_t n_sent;
	char log[4096];
	int changed;
	atomic_bool stop;
	bool deaf;
};

static inline int peer_send(void *ctx, const struct mcp_out *m, struct why *why)
{
	struct peer *p = ctx;
	AUTO_JSON msg = NULL;

	assert_null(strchr(m->text, '\n'));
	assert_int_equal(json_parse(m->text, m->len, &msg, NULL), OK);
	assert_string_equal(json_string_value(json_object_get(msg, "jsonrpc")), "2.0");
	if (p->n_sent < ARRAY_LEN(p->sent))
		p->sent[p->n_sent++] = str_ndup(m->text, m->len);
	if (p->deaf)
		return why_set(why, ERR_FULL, "server not reading");
	if (m->method != NULL)
		p->on(p, m->method, m->id, msg);
	return OK;
}

static inline void peer_log(void *ctx, const char *level, const char *text)
{
	struct peer *p = ctx;
	size_t at = strlen(p->log);

	snprintf(p->log + at, sizeof(p->log) - at, "%s: %s\n", level, text);
}

static inline void peer_changed(void *ctx)
{
	((struct peer *)ctx)->changed++;
}

static inline json_t *peer_roots(void *ctx)
{
	return json_pack("[{s:s, s:s}]", "uri", "file:///w/app", "name", "app");
}

static inline int say(struct peer *p, const char *text)
{
	return mcp_session_receive(p->s, text, strlen(text), NULL);
}

static inline void say_result(struct peer *p, int64_t id, const char *result)
{
	AUTO_STR text = str_printf("{\"jsonrpc\":\"2.0\",\"id\":%lld,\"result\":%s}", (long long)id, result);
	assert_int_equal(say(p, text), OK);
}

static inline void say_error(struct peer *p, int64_t id, const char *error)
{
	AUTO_STR text = str_printf("{\"jsonrpc\":\"2.0\",\"id\":%lld,\"error\":%s}", (long long)id, error);
	assert_int_equal(say(p, text), OK);
}

static inline void peer_begin(struct peer *p, void (*on)(struct peer *, const char *, int64_t, const json_t *))
{
	*p = (struct peer){.on = on};
	p->s = mcp_session_new(
	    &(struct mcp_transport){
		.send = peer_send, .tools_changed = peer_changed, .log = peer_log, .roots = peer_roots, .ctx = p},
	    &TIMES);
}

static inline void peer_end(struct peer *p)
{
	mcp_session_free(&p->s);
	for (size_t i = 0; i < p->n_sent; i++)
		str_free(&p->sent[i]);
}

static inline const char *last_sent(const struct peer *p)
{
	return p->n_sent > 0 ? p->sent[p->n_sent - 1] : "";
}

static const char *hello = "{\"protocolVersion\":\"2025-06-18\",\"capabilities\":{\"tools\":{\"listChanged\":true}},"
			   "\"serverInfo\":{\"name\":\"t\",\"version\":\"1\"},\"instructions\":\"Be kind.\"}";

static inline void answer_hello(struct peer *p, const char *method, int64_t id, const json_t *msg)
{
	if (strcmp(method, "initialize") == 0)
		say_result(p, id, hello);
}
