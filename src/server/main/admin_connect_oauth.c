/* Services that let us have tokens by a browser: the administrator opens an address that is printed here, agrees there,
 * and gives us the address that the browser was sent to, which has a code. Nothing of ours has to be reachable for it.
 * What the address has of ours (`state`) is sealed with the server's key, so that only an answer to it is taken, within
 * an hour; Linear takes a code once. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/seal.h"
#include "base/text.h"
#include "server/main/admin_connect_priv.h"
#include "server/main/admin_priv.h"
#include "server/main/commands.h"
#include "server/triggers/service_tokens.h"
#include <ctype.h>
#include <sodium.h>
#include <string.h>

#define STATE_MS ((int64_t)60 * 60 * 1000)
#define ANSWER_LEN 4000

static const char *table_of(const struct connect *c)
{
	return c->surface == CONNECT_SLACK ? "slack" : "linear";
}

/* What a state is sealed for: an answer to one service is none to the other. malloc'ed. */
static char *state_of(const struct connect *c)
{
	return str_printf("connect/%s", table_of(c));
}

bool connect_by_browser(const struct connect *c)
{
	return c->surface > CONNECT_GITEA &&
	       json_object_get(json_object_get(c->root, table_of(c)), "client_id") != NULL;
}

static int load_seal(const struct connect *c, struct seal **ret)
{
	const char *named = json_string_value(json_object_get(json_object_get(c->root, "secrets"), "key_file"));
	AUTO_STR own = str_printf("%s/secret.key", c->data_dir);
	struct why why = {0};

	return seal_load(named != NULL ? named : own, false, ret, &why) == OK ? 0 : usage_error("%s", why.text);
}

static char *redirect_of(const struct connect *c)
{
	return str_printf("%s/link", c->url);
}

static void print_encoded(const char *s)
{
	for (; *s != '\0'; s++)
		if (isalnum((unsigned char)*s) || strchr("-._~", *s) != NULL)
			putchar(*s);
		else
			printf("%%%02X", (unsigned char)*s);
}

static void print_address(const struct connect *c, const char *client_id, const char *state)
{
	AUTO_STR redirect = redirect_of(c);
	AUTO_STR scopes = connect_slack_scopes(c, ",");
	bool slack = c->surface == CONNECT_SLACK;

	printf("To connect %s, open this address as an administrator of %s, within an hour:\n\n   %s?client_id=",
	    slack ? "a workspace" : "it", slack ? "it" : "the workspace",
	    slack ? "https://slack.com/oauth/v2/authorize" : "https://linear.app/oauth/authorize");
	print_encoded(client_id);
	printf("&redirect_uri=");
	print_encoded(redirect);
	if (slack) {
		printf("&scope=");
		print_encoded(scopes);
	} else {
		printf("&response_type=code&actor=app&scope=read,write,app:assignable,app:mentionable&prompt=consent");
	}
	printf("&state=");
	print_encoded(state);
	printf("\n\nand then give what stands in the browser's address line to this command, with --answer 'URL'.\n\n");
}

int connect_authorize(struct connect *c)
{
	AUTO_FINI(connect_table) t = {0};
	AUTO(seal) seal = NULL;
	int status;

	connect_table_read(c, &t);
	if (c->data_dir == NULL || c->url == NULL) {
		connect_missing(c, "%s: without it there is no address for your browser",
		    c->data_dir == NULL ? "--data DIR, the server's data folder" : "server.public_url (or --url)");
		return 0;
	}
	status = load_seal(c, &seal);
	if (status != 0)
		return status;
	AUTO_STR of = state_of(c);
	int64_t until = clock_wall_ms() + STATE_MS;
	AUTO_STR plain = str_printf("%lld", (long long)until);
	AUTO_STR state = seal_text(seal, of, plain);

	print_address(c, t.client_id != NULL ? t.client_id : "", state);
	return 0;
}

/* The value of a field of the query; malloc'ed, NULL: it is not there. */
static char *field_of(const char *url, const char *name)
{
	const char *at = strchr(url, '?');
	size_t n = strlen(name);
	char *value = NULL;

	while (at != NULL) {
		at++;
		if (strncmp(at, name, n) == 0 && at[n] == '=') {
			size_t len = strcspn(at + n + 1, "&#");

			return text_percent_decode(at + n + 1, len, &value) == OK ? value : NULL;
		}
		at = strchr(at, '&');
	}
	return NULL;
}

static int check_state(const struct connect *c, const struct seal *seal)
{
	AUTO_STR state = field_of(c->answer, "state");
	AUTO_STR of = state_of(c);
	AUTO_STR plain = NULL;
	int64_t until = 0;

	if (state == NULL || seal_try(seal, of, state, &plain) != OK ||
	    text_parse_int(plain, 0, INT64_MAX, &until) != OK)
		return usage_error(
		    "--answer: it does not answer an address of this command; run it without --answer for one");
	return until < clock_wall_ms()
		   ? usage_error(
			 "--answer: it is older than an hour; run the command without --answer for a new address")
		   : 0;
}

struct keeping {
	const struct seal *seal;
	const char *service;
	struct service_grant *grant;
};

/* Over whatever is there. */
static int keep_in(struct tx *tx, void *arg)
{
	struct keeping *k = arg;
	struct service_grant *g = k->grant;
	AUTO_FINI(service_token) before = {0};
	AUTO_JSON data = json_pack("{s:s, s:s}", "service", k->service, "workspace", g->place);
	int rc = service_token_load(tx, k->seal, k->service, g->place, &before);

	/* One that does not open is replaced as well. */
	if (rc != OK && rc != ERR_EMPTY && rc != ERR_INTERNAL)
		return rc;
	g->token.version = before.version;
	rc = service_token_keep(tx, k->seal, k->service, g->place, g->name, &g->token, clock_wall_ms());
	return rc == OK ? audit_write(tx, &admin_by, "service_connected", json_incref(data)) : rc;
}

static int keep(struct connect *c, const struct seal *seal, struct service_grant *g)
{
	struct keeping k = {seal, table_of(c), g};
	struct store *st = NULL;
	int status = admin_open_store(c->data_dir, false, &st), rc;

	if (status != 0)
		return status;
	rc = store_write(st, keep_in, &k);
	store_close(&st);
	if (rc == OK)
		connect_ok("%s%s%s is connected; a server that runs uses it from now on", c->name,
		    g->place[0] != '\0' ? ", workspace " : "", g->place[0] != '\0' ? g->name : "");
	else
		connect_missing(c, "the token cannot be kept: %s", err_text(rc));
	return 0;
}

int connect_take_answer(struct connect *c)
{
	AUTO_FINI(service_grant) grant = {0};
	AUTO(seal) seal = NULL;
	struct why why = {0};
	int status;

	if (!connect_by_browser(c))
		return usage_error("--answer is for Linear and Slack with a client_id in the settings");
	if (c->url == NULL || strlen(c->answer) > ANSWER_LEN)
		return usage_error(c->url == NULL ? "--url URL is required, as it was for the address"
						  : "--answer: that is too long for such an address");
	AUTO_STR code = field_of(c->answer, "code");
	AUTO_STR error = field_of(c->answer, "error");
	AUTO_STR redirect = redirect_of(c);

	status = load_seal(c, &seal);
	if (status == 0)
		status = check_state(c, seal);
	if (status != 0)
		return status;
	if (code == NULL)
		return usage_error("--answer has no code%s%s%s%.100s", error != NULL ? ": " : "",
		    error != NULL ? c->name : "", error != NULL ? " says " : "", error != NULL ? error : "");
	if (service_grant_of_code(table_of(c), json_object_get(c->root, table_of(c)), code, redirect, &grant, &why) ==
	    OK)
		return keep(c, seal, &grant);
	connect_missing(c, "%s", why.text);
	return 0;
}

/* [[place, name, token]] of what was taken before. */
int connect_kept_tokens(struct connect *c, json_t **ret)
{
	AUTO(query) q = NULL;
	AUTO(seal) seal = NULL;
	struct store *st = NULL;
	struct tx *tx = NULL;
	const char *service = table_of(c);
	int status = load_seal(c, &seal), rc;

	*ret = json_array();
	if (status == 0)
		status = admin_open_store(c->data_dir, false, &st);
	if (status != 0)
		return status;
	rc = tx_begin(st, TX_READ, &tx);
	if (rc == OK)
		rc = tx_query(
		    tx, &q, "SELECT place, name FROM service_tokens WHERE service = $1 ORDER BY place", "s", service);
	while (rc == OK && (rc = query_next(q)) == OK) {
		AUTO_FINI(service_token) token = {0};

		if (service_token_load(tx, seal, service, query_str(q, 0), &token) == OK && token.access != NULL &&
		    (token.expires_at_ms == 0 || token.expires_at_ms > clock_wall_ms()))
			json_array_append_new(
			    *ret, json_pack("[s, s, s]", query_str(q, 0), query_str(q, 1), token.access));
	}
	query_free(&q);
	tx_free(&tx);
	store_close(&st);
	return 0;
}
