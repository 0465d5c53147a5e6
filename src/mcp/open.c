/* How a session begins: initialize of the older revisions, server/discover of the stateless one, and which is tried. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "mcp/session_priv.h"
#include <string.h>

#define META "io.modelcontextprotocol/"

/* Newest first. */
static const char *const versions[] = {"2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"};

bool mcp_version_known(const char *version)
{
	for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
		if (strcmp(versions[i], version) == 0)
			return true;
	}
	return false;
}

bool mcp_protocol_read(const char *word, enum mcp_protocol *ret)
{
	static const char *const words[] = {[MCP_AUTO] = "auto", [MCP_LEGACY] = "legacy", [MCP_MODERN] = "modern"};

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (word == NULL || strcmp(word, words[i]) == 0) {
			*ret = (enum mcp_protocol)i;
			return true;
		}
	}
	return false;
}

void mcp_session_prefer(struct mcp_session *s, enum mcp_protocol wish, bool was_modern)
{
	s->wish = wish;
	s->was_modern = was_modern;
}

bool mcp_is_modern_refusal(const json_t *error)
{
	static const int codes[] = {-32601, -32602, -32020, -32022};

	for (size_t i = 0; i < ARRAY_LEN(codes); i++)
		if (json_integer_value(json_object_get(error, "code")) == codes[i])
			return true;
	return false;
}

static void set_version(struct mcp_session *s, const char *version)
{
	pthread_mutex_lock(&s->lock);
	snprintf(s->version, sizeof(s->version), "%s", version);
	pthread_mutex_unlock(&s->lock);
}

/* What both kinds of server say of themselves. */
static void take_nature(struct mcp_session *s, const json_t *r)
{
	const char *said = json_string_value(json_object_get(r, "instructions"));
	const json_t *can = json_object_get(r, "capabilities");

	if (said != NULL)
		s->instructions = str_ndup(said, text_utf8_cut(said, strlen(said), INSTRUCTIONS_MAX));
	s->tools = json_is_object(json_object_get(can, "tools"));
	s->changes = json_is_true(json_object_get(json_object_get(can, "tools"), "listChanged"));
	s->logging = json_is_object(json_object_get(can, "logging"));
}

static int take_initialized(struct mcp_session *s, const json_t *r, struct why *why)
{
	const char *version = json_string_value(json_object_get(r, "protocolVersion"));
	const json_t *can = json_object_get(r, "capabilities");

	if (version == NULL || !json_is_object(can))
		return why_set(why, ERR_PROTOCOL, "the MCP server answered initialize without %s",
		    version == NULL ? "protocolVersion" : "capabilities");
	if (!mcp_version_known(version)) {
		AUTO_STR line = text_line(version, 32);
		return why_set(why, ERR_PROTOCOL, "unsupported protocol version %s", line);
	}
	set_version(s, version);
	take_nature(s, r);
	return OK;
}

static json_t *client_info(void)
{
	json_t *us = json_object();

	json_put(us, "name", "bullpen");
	json_put(us, "title", "Bullpen");
	json_put(us, "version", BULLPEN_VERSION);
	return us;
}

static json_t *initialize_params(const struct mcp_session *s, const char *version)
{
	json_t *p = json_object(), *can = json_object();

	if (s->t.roots != NULL)
		json_put_new(can, "roots", json_pack("{s:b}", "listChanged", 1));
	json_put(p, "protocolVersion", version);
	json_put_new(p, "capabilities", can);
	json_put_new(p, "clientInfo", client_info());
	return p;
}

/* The newest of ours in the list that a refusal carries; NULL: none. */
static const char *best_common(const json_t *error)
{
	const json_t *supported = json_object_get(json_object_get(error, "data"), "supported"), *v;
	size_t at;

	for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
		json_array_foreach((json_t *)supported, at, v)
		{
			if (json_is_string(v) && strcmp(json_string_value(v), versions[i]) == 0)
				return versions[i];
		}
	}
	return NULL;
}

/* *ret_forward: the refusal is one that a modern server gives. */
static int open_legacy(struct mcp_session *s, const atomic_bool *stop, bool *ret_forward, struct why *why)
{
	AUTO_JSON r = NULL;
	const char *common = NULL;
	int64_t code = 0;
	int rc;

	rc = mcp_ask(s, "initialize", initialize_params(s, MCP_PROTOCOL), s->times.initialize, stop, &r, &code, why);
	if (rc == ERR_PROTOCOL && (code == -32602 || code == -32022) && (common = best_common(r)) != NULL) {
		json_drop(&r);
		rc = mcp_ask(s, "initialize", initialize_params(s, common), s->times.initialize, stop, &r, &code, why);
	}
	if (rc != OK) {
		*ret_forward = rc == ERR_PROTOCOL && mcp_is_modern_refusal(r);
		return rc;
	}
	rc = take_initialized(s, r, why);
	if (rc != OK)
		return rc;
	mcp_notify(s, "notifications/initialized", NULL);
	if (s->logging) {
		AUTO_JSON ignored = NULL;
		IGNORE(mcp_ask(s, "logging/setLevel", json_pack("{s:s}", "level", "warning"), s->times.ping, stop,
		    &ignored, &code, NULL));
	}
	return OK;
}

void mcp_put_meta(const struct mcp_session *s, json_t *params)
{
	json_t *meta = json_object_get(params, "_meta");

	if (meta == NULL) {
		meta = json_object();
		json_put_new(params, "_meta", meta);
	}
	json_put(meta, META "protocolVersion", MCP_PROTOCOL_MODERN);
	json_put_new(meta, META "clientCapabilities", json_object());
	json_put_new(meta, META "clientInfo", client_info());
	if (s->logging)
		json_put(meta, META "logLevel", "warning");
}

static int take_discovered(struct mcp_session *s, const json_t *r, struct why *why)
{
	const json_t *versions_there = json_object_get(r, "supportedVersions"), *v;
	bool ours = false;
	size_t i;

	json_array_foreach((json_t *)versions_there, i, v)
	{
		const char *text = json_string_value(v);

		ours = ours || (text != NULL && strcmp(text, MCP_PROTOCOL_MODERN) == 0);
	}
	if (!json_is_array(versions_there) || !json_is_object(json_object_get(r, "capabilities")))
		return why_set(why, ERR_PROTOCOL, "the MCP server answered server/discover without %s",
		    json_is_array(versions_there) ? "capabilities" : "supportedVersions");
	if (!ours)
		return why_set(
		    why, ERR_PROTOCOL, "the MCP server does not support protocol version " MCP_PROTOCOL_MODERN);
	take_nature(s, r);
	return OK;
}

static json_t *subscribe_message(struct mcp_session *s, int64_t *ret_id)
{
	json_t *msg = json_object(), *params = json_pack("{s:{s:b}}", "notifications", "toolsListChanged", 1);

	mcp_put_meta(s, params);
	pthread_mutex_lock(&s->lock);
	*ret_id = s->subscription = ++s->last_id;
	pthread_mutex_unlock(&s->lock);
	json_put_int(msg, "id", *ret_id);
	json_put(msg, "method", "subscriptions/listen");
	json_put_new(msg, "params", params);
	return msg;
}

char *mcp_session_subscribe(struct mcp_session *s)
{
	int64_t id;
	AUTO_JSON msg = subscribe_message(s, &id);

	json_put(msg, "jsonrpc", "2.0");
	return json_text(msg);
}

static int open_modern(struct mcp_session *s, const atomic_bool *stop, struct why *why)
{
	AUTO_JSON r = NULL;
	int64_t code = 0, id;
	int rc;

	atomic_store(&s->modern, true);
	set_version(s, MCP_PROTOCOL_MODERN);
	rc = mcp_ask(s, "server/discover", json_object(), s->times.initialize, stop, &r, &code, why);
	if (rc == OK)
		rc = take_discovered(s, r, why);
	if (rc != OK) {
		atomic_store(&s->modern, false);
		set_version(s, "");
		return rc;
	}
	/* Its answer comes only when the server has enough of it: nobody waits. */
	if (s->changes && !s->t.is_http) {
		json_t *msg = subscribe_message(s, &id);

		IGNORE(mcp_send(s, msg,
		    &(struct mcp_out){.method = "subscriptions/listen", .deadline_mono_ms = clock_mono_ms() + 1000},
		    NULL));
	}
	return OK;
}

/* It speaks no stateless revision, as far as that can be told. */
static bool is_refusal(int rc)
{
	return rc == ERR_PROTOCOL || rc == ERR_NET || rc == ERR_NOT_FOUND;
}

int mcp_session_initialize(struct mcp_session *s, const atomic_bool *stop, struct why *why)
{
	struct why other = {0};
	bool forward = false;
	int rc, second;

	if (s->wish == MCP_MODERN)
		return open_modern(s, stop, why);
	if (s->wish == MCP_AUTO && s->was_modern) {
		rc = open_modern(s, stop, why);
		return is_refusal(rc) ? open_legacy(s, stop, &forward, why) : rc;
	}
	rc = open_legacy(s, stop, &forward, why);
	if (rc == OK || !forward || s->wish == MCP_LEGACY)
		return rc;
	/* What the first attempt said is told if neither works. */
	second = open_modern(s, stop, &other);
	if (is_refusal(second))
		return rc;
	if (second != OK && why != NULL)
		*why = other;
	return second;
}

int mcp_needs_input(const struct mcp_session *s, const json_t *result, bool *ret, struct why *why)
{
	const json_t *type = json_object_get(result, "resultType");
	const char *word = json_string_value(type);

	*ret = false;
	/* The older revisions do not have it: what a server puts there is its own. */
	if (!mcp_session_is_modern(s) || type == NULL || (word != NULL && strcmp(word, "complete") == 0))
		return OK;
	*ret = word != NULL && strcmp(word, "input_required") == 0;
	if (!*ret) {
		AUTO_STR line = text_line(word, 60);
		return why_set(why, ERR_PROTOCOL, "the MCP server gave a result of the unknown type '%s'", line);
	}
	return OK;
}

int mcp_decline(const json_t *result, json_t **ret, struct why *why)
{
	const json_t *asked = json_object_get(result, "inputRequests"),
		     *state = json_object_get(result, "requestState");
	AUTO_JSON answers = json_object();
	AUTO_JSON more = json_object();
	const char *key;
	json_t *one;

	json_object_foreach((json_t *)asked, key, one)
	{
		const char *method = json_string_value(json_object_get(one, "method"));

		if (method == NULL || strcmp(method, "elicitation/create") != 0) {
			AUTO_STR line = text_line(method, 100);
			return why_set(
			    why, ERR_PROTOCOL, "the tool wants %s of us, which is not offered to MCP servers", line);
		}
		json_put_new(answers, key, json_pack("{s:s}", "action", "decline"));
	}
	if (json_object_size(answers) == 0 && !json_is_string(state))
		return why_set(why, ERR_PROTOCOL, "the tool wants input, and does not say which");
	if (json_object_size(answers) > 0)
		json_object_set(more, "inputResponses", answers);
	if (json_is_string(state))
		json_object_set(more, "requestState", (json_t *)state);
	*ret = TAKE(more);
	return OK;
}
