/* `bullpen admin webhooks`: what the team's webhooks were told, and telling it again. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/options.h"
#include "base/terminal.h"
#include "server/main/admin_priv.h"
#include "server/main/commands.h"
#include "server/webhooks/team.h"
#include <string.h>

#define SHOWN 1000

static const char *field(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s != NULL ? s : "-";
}

static void print_webhook(const json_t *w)
{
	AUTO_STR url = terminal_clean(field(w, "url"), TERMINAL_LINE);
	AUTO_STR name = terminal_clean(json_word(w, "name"), TERMINAL_LINE);

	printf("%s\t%lld waiting\t%lld dead\t%s\t%s\n", field(w, "id"),
	    (long long)json_integer_value(json_object_get(w, "waiting")),
	    (long long)json_integer_value(json_object_get(w, "failed")), url, name);
}

static void print_delivery(const json_t *d)
{
	AUTO_STR error = terminal_clean(field(d, "error"), TERMINAL_LINE);

	printf("%s\t%s\t%s\t%s\t%s\t%lld attempts\t%s\n", field(d, "id"), field(d, "state"), field(d, "createdAt"),
	    field(d, "agentId"), field(d, "status"), (long long)json_integer_value(json_object_get(d, "attempts")),
	    error);
}

/* The team's webhooks; or of one, the newest deliveries. */
static int list_in(struct tx *tx, const char *webhook)
{
	AUTO_JSON items = NULL;
	AUTO_STR more = NULL;
	const json_t *o;
	int64_t next;
	size_t i;
	int rc;

	if (webhook == NULL) {
		rc = team_webhook_list(tx, THE_TEAM, &items);
	} else {
		rc = team_webhook_find(tx, THE_TEAM, webhook);
		if (rc == OK)
			rc = team_delivery_list(tx, webhook, NULL, INT64_MAX, "", SHOWN, &items, &next, &more);
	}
	if (rc != OK)
		return rc;
	json_array_foreach(items, i, o)
	{
		if (webhook == NULL)
			print_webhook(o);
		else
			print_delivery(o);
	}
	return OK;
}

static int perform(const char *verb, const char *data_dir, const char *which)
{
	bool lists = strcmp(verb, "ls") == 0;
	struct store *st = NULL;
	struct tx *tx = NULL;
	int rc = admin_open_store(data_dir, false, &st);

	if (rc != 0)
		return rc;
	rc = tx_begin(st, lists ? TX_READ : TX_WRITE, &tx);
	if (rc == OK)
		rc = lists ? list_in(tx, which) : team_delivery_again(tx, THE_TEAM, NULL, which, clock_wall_ms());
	if (rc == OK && !lists)
		rc = tx_commit(&tx);
	tx_free(&tx);
	store_close(&st);
	if (rc == OK)
		return 0;
	fprintf(stderr, "error: %s\n",
	    rc == ERR_NOT_FOUND	 ? lists ? "there is no such webhook" : "there is no such delivery (any more)"
	    : rc == ERR_CONFLICT ? "it waits for its next attempt already"
				 : err_text(rc));
	return 1;
}

int admin_webhooks(int argc, char **argv)
{
	const char *data_dir = NULL;
	const struct option_row rows[] = {{.name = "data",
					      .value = "DIR",
					      .text = &data_dir,
					      .help = "the folder that bullpen serve uses (required)"},
	    {0}};
	const struct options o = {.usage = "bullpen admin webhooks ls --data DIR [WEBHOOK]\n"
					   "       bullpen admin webhooks redeliver --data DIR DELIVERY",
	    .about = "Lists the team's webhooks, or what one of them was told, and delivers something once more.",
	    .rows = rows,
	    .help_word = true};
	struct option_words words;
	struct why why = {0};
	int rc = options_parse(&o, argc, argv, 2, &words, &why);

	if (rc == ERR_EMPTY) {
		options_help(&o, stdout);
		return 0;
	}
	if (rc != OK)
		return usage_error("%s", why.text);
	if (words.n >= 1 && strcmp(words.v[0], "redeliver") == 0 && words.n != 2)
		return usage_error("name the delivery: bullpen admin webhooks ls --data DIR WEBHOOK shows them");
	if (words.n < 1 || (strcmp(words.v[0], "ls") != 0 && strcmp(words.v[0], "redeliver") != 0))
		return usage_error("usage: bullpen admin webhooks ls|redeliver --data DIR …");
	return perform(words.v[0], data_dir, words.n > 1 ? words.v[1] : NULL);
}
