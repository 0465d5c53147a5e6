/* The table `slack` of the settings. */
#include "base/mem.h"
#include "base/seal.h"
#include "base/table.h"
#include "base/text.h"
#include "net/http_client.h"
#include "server/triggers/slack_priv.h"
#include <string.h>

#define IDLE_MAX 4
#define IDLE_MS 30000

static int read_url(const struct table *t, const char *key, const char *otherwise, bool slash, char **ret)
{
	const char *text = otherwise;
	size_t n;
	int rc = table_text(t, key, &text);

	if (rc != OK)
		return rc;
	n = strlen(text);
	if ((!text_has_prefix(text, "https://") && !text_has_prefix(text, "http://")) || strpbrk(text, "@?# ") != NULL)
		return table_wrong(t, key, "a URL, without user, query and fragment");
	while (n > 0 && text[n - 1] == '/')
		n--;
	*ret = str_printf("%.*s%s", (int)n, text, slash ? "/" : "");
	return OK;
}

static int read_all(const struct table *t, struct slack *s)
{
	static const char *const keys[] = {"signing_secret_file", "bot_token_file", "app_token_file", "client_id",
	    "client_secret_file", "api_url", "files_url", "ca_file", "app_id", "link_by_email", NULL};
	const char *app_id = NULL, *ca = NULL, *client = NULL;
	int rc = table_keys(t, keys);

	if (rc == OK)
		rc = table_secret(t, "signing_secret_file", &s->signing_secret);
	if (rc == OK)
		rc = table_secret(t, "bot_token_file", &s->bot_token);
	if (rc == OK)
		rc = table_secret(t, "app_token_file", &s->app_token);
	if (rc == OK)
		rc = table_secret(t, "client_secret_file", &s->client_secret);
	if (rc == OK)
		rc = table_text(t, "client_id", &client);
	if (rc == OK)
		rc = read_url(t, "api_url", "https://slack.com/api", false, &s->api_url);
	if (rc == OK)
		rc = read_url(t, "files_url", "https://files.slack.com", true, &s->files_url);
	if (rc == OK)
		rc = table_text(t, "ca_file", &ca);
	if (rc == OK)
		rc = table_text(t, "app_id", &app_id);
	if (rc == OK)
		rc = table_bool(t, "link_by_email", &s->link_by_email);
	if (rc != OK)
		return rc;
	if (app_id != NULL && !text_is_token(app_id, "", SLACK_ID_MAX))
		return table_wrong(t, "app_id", "an id like A0123ABCD");
	s->app_id = str_dup(app_id);
	s->ca_file = str_dup(ca);
	s->client_id = str_dup(client);
	if ((client != NULL) != (s->client_secret != NULL))
		return table_wrong(
		    t, client != NULL ? "client_secret_file" : "client_id", "given: they belong together");
	if (s->bot_token == NULL && client == NULL)
		return table_wrong(t, "bot_token_file",
		    "the path of a file that has the token of the bot (xoxb-…), or client_id is given");
	if (s->signing_secret == NULL && s->app_token == NULL)
		return table_wrong(t, "signing_secret_file",
		    "the path of a file that has the signing secret, or app_token_file is given (Socket Mode)");
	return OK;
}

int slack_new(const json_t *settings, struct slack **ret, struct why *why)
{
	const struct table t = {.json = settings, .where = "slack", .why = why};
	struct slack *s;
	int rc;

	*ret = NULL;
	if (settings == NULL)
		return OK;
	s = NEW(struct slack);
	s->magic = SLACK_MAGIC;
	pthread_mutex_init(&s->mtx, NULL);
	s->names = json_object();
	s->selves = json_object();
	s->pool = http_client_pool_new(IDLE_MAX, IDLE_MS);
	rc = read_all(&t, s);
	if (rc != OK) {
		slack_free(&s);
		return rc;
	}
	*ret = s;
	return OK;
}

void slack_use(struct slack *s, struct store *store, const struct seal *seal)
{
	if (s == NULL)
		return;
	s->store = store;
	s->seal = seal;
}

void slack_stop(struct slack *s)
{
	if (s != NULL)
		atomic_store(&s->stopped, true);
}

void slack_free(struct slack **sp)
{
	struct slack *s = TAKE(*sp);

	if (s == NULL)
		return;
	OBJ_CHECK(s, SLACK_MAGIC);
	str_wipe(&s->signing_secret);
	str_wipe(&s->bot_token);
	str_wipe(&s->app_token);
	http_client_pool_free(&s->pool);
	pthread_mutex_destroy(&s->mtx);
	json_drop(&s->names);
	json_drop(&s->selves);
	str_wipe(&s->client_secret);
	free(s->client_id);
	free(s->ca_file);
	free(s->api_url);
	free(s->files_url);
	free(s->app_id);
	s->magic = 0;
	free(s);
}
