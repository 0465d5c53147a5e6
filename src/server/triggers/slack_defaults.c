/* What holds in Slack where a request says nothing: repositories, a machine of one's own, and whether results are
 * said. Of a workspace, of a channel, of a person there. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/repo_url.h"
#include "base/text.h"
#include "server/audit/audit.h"
#include "server/fleet/machines.h"
#include "server/triggers/slack_priv.h"
#include <string.h>

#define RECENT_MS ((int64_t)24 * 60 * 60 * 1000)
#define REPOS_MAX 90 /* in a list to choose from: Slack takes 100 */
#define REPO_BYTES 150 /* Slack: of a choice's value */

static int load(
    struct tx *tx, const struct principal *who, const char *place, const char *holder, const char *kind, char **ret)
{
	int rc = tx_query_text(tx, ret,
	    "SELECT value FROM slack_defaults WHERE team_id = $1 AND place = $2 AND holder = $3 AND kind = $4", "isss",
	    who->team_id, place, holder, kind);

	return rc == ERR_EMPTY ? OK : rc;
}

static int store(struct tx *tx, const struct principal *who, const char *place, const char *holder, const char *kind,
    const char *value)
{
	if (value == NULL)
		return tx_exec(tx,
		    "DELETE FROM slack_defaults WHERE team_id = $1 AND place = $2 AND holder = $3 AND kind = $4",
		    "isss", who->team_id, place, holder, kind);
	return tx_exec(tx,
	    "INSERT INTO slack_defaults(team_id, place, holder, kind, value, set_by, set_at) VALUES($1, $2, $3, $4, "
	    "$5, "
	    "$6, $7) ON CONFLICT(team_id, place, holder, kind) DO UPDATE SET value = excluded.value, set_by = "
	    "excluded.set_by, set_at = excluded.set_at",
	    "issssii", who->team_id, place, holder, kind, value, who->user_id, clock_wall_ms());
}

static char *person(const struct principal *who)
{
	return str_printf("user:%lld", (long long)who->user_id);
}

/* The repository of the last agent that she began in this channel, if that is not long ago. */
static int load_recent(struct tx *tx, const struct principal *who, const char *place, const char *channel, char **ret)
{
	AUTO_STR threads = str_printf("%s/%%", channel);
	int rc = tx_query_text(tx, ret,
	    "SELECT a.repo_url FROM conversations c JOIN agents a ON a.id = c.agent_id WHERE c.surface = 'slack' AND "
	    "c.place = $1 AND c.user_id = $2 AND c.thread LIKE $3 AND c.created_at > $4 AND a.repo_url <> '' ORDER BY "
	    "c.created_at DESC LIMIT 1",
	    "sisi", place, who->user_id, threads, clock_wall_ms() - RECENT_MS);

	return rc == ERR_EMPTY ? OK : rc;
}

static int choose_repo(
    struct tx *tx, const struct principal *who, const char *place, struct asked *a, struct trigger_options *o)
{
	const char *channel = json_word(a->at, "channel");
	AUTO_STR me = person(who);
	const char *const holders[] = {channel, me, ""};
	int rc;

	if (o->repo != NULL)
		return OK;
	rc = load_recent(tx, who, place, channel, &o->repo);
	if (rc == OK && o->repo != NULL) {
		AUTO_STR label = repo_url_label(o->repo, NULL);

		a->note_of_new = str_printf("I work in %s, as you did here last; `repo=owner/name` says another one.",
		    label != NULL ? label : o->repo);
	}
	for (size_t i = 0; rc == OK && o->repo == NULL && i < ARRAY_LEN(holders); i++)
		rc = load(tx, who, place, holders[i], "repo", &o->repo);
	return rc;
}

/* What the channel says goes before what the workspace says; results stay inside of the organisation unless the
 * workspace says otherwise. */
static int choose_summaries(struct tx *tx, const struct principal *who, const char *place, struct asked *a)
{
	AUTO_STR of_channel = NULL;
	AUTO_STR of_all = NULL;
	AUTO_STR shared = NULL;
	int rc = load(tx, who, place, json_word(a->at, "channel"), "summaries", &of_channel);

	if (rc == OK)
		rc = load(tx, who, place, "", "summaries", &of_all);
	if (rc == OK)
		rc = load(tx, who, place, "", "shared_summaries", &shared);
	const char *says = of_channel != NULL ? of_channel : of_all != NULL ? of_all : "on";

	json_put_bool(a->at, "quiet",
	    strcmp(says, "off") == 0 ||
		(json_is_true(json_object_get(a->at, "external")) && (shared == NULL || strcmp(shared, "on") != 0)));
	return rc;
}

int slack_defaults_settle(
    struct tx *tx, const struct principal *who, const char *place, struct asked *a, struct trigger_options *o)
{
	AUTO_STR me = person(who);
	int rc = load(tx, who, place, me, "machine", &a->default_machine);

	if (rc == OK)
		rc = choose_repo(tx, who, place, a, o);
	return rc == OK ? choose_summaries(tx, who, place, a) : rc;
}

static const char *or_none(const char *s)
{
	return s != NULL ? s : "none";
}

static int describe_repos(
    struct tx *tx, const struct principal *who, const char *place, const char *channel, struct strbuf *b)
{
	AUTO_STR me = person(who);
	AUTO_STR all = NULL;
	AUTO_STR here = NULL;
	AUTO_STR mine = NULL;
	AUTO_STR recent = NULL;
	int rc = load(tx, who, place, "", "repo", &all);

	if (rc == OK)
		rc = load(tx, who, place, channel, "repo", &here);
	if (rc == OK)
		rc = load(tx, who, place, me, "repo", &mine);
	if (rc == OK)
		rc = load_recent(tx, who, place, channel, &recent);
	AUTO_STR label = recent != NULL ? repo_url_label(recent, NULL) : NULL;

	IGNORE(strbuf_addf(b, "Default repository of the workspace: %s. Of this channel: %s. Yours: %s.", or_none(all),
	    or_none(here), or_none(mine)));
	if (label != NULL)
		IGNORE(strbuf_addf(b, " You worked here last in %s, which goes before them.", label));
	return rc;
}

static int describe_machine(struct tx *tx, const struct principal *who, const char *place, struct strbuf *b)
{
	AUTO_STR me = person(who);
	AUTO_STR machine = NULL;
	int rc = load(tx, who, place, me, "machine", &machine);

	IGNORE(strbuf_addf(b, "Your default machine: %s.", or_none(machine)));
	if (machine != NULL)
		IGNORE(strbuf_adds(b, " It goes before the default pools."));
	return rc;
}

static int describe_summaries(
    struct tx *tx, const struct principal *who, const char *place, const char *channel, struct strbuf *b)
{
	AUTO_STR all = NULL;
	AUTO_STR here = NULL;
	AUTO_STR shared = NULL;
	int rc = load(tx, who, place, "", "summaries", &all);

	if (rc == OK)
		rc = load(tx, who, place, channel, "summaries", &here);
	if (rc == OK)
		rc = load(tx, who, place, "", "shared_summaries", &shared);
	IGNORE(strbuf_addf(b, "Summaries in the workspace: %s. In this channel: %s. In shared channels: %s.",
	    all != NULL ? all : "on", here != NULL ? here : "as in the workspace", shared != NULL ? shared : "off"));
	return rc;
}

int slack_defaults_describe(struct tx *tx, const struct principal *who, const char *place, const char *channel,
    enum slack_command_kind kind, struct strbuf *b)
{
	bool all = kind == SLACK_SETTINGS;
	int rc = OK;

	if (all || kind == SLACK_REPO) {
		IGNORE(strbuf_adds(b, all ? "\n" : ""));
		rc = describe_repos(tx, who, place, channel, b);
	}
	if (rc == OK && (all || kind == SLACK_MACHINE)) {
		IGNORE(strbuf_adds(b, all ? "\n" : ""));
		rc = describe_machine(tx, who, place, b);
	}
	if (rc == OK && (all || kind == SLACK_SUMMARIES)) {
		IGNORE(strbuf_adds(b, all ? "\n" : ""));
		rc = describe_summaries(tx, who, place, channel, b);
	}
	return rc;
}

static const struct {
	enum slack_command_kind set, show;
	const char *kind, *event, *what;
} changes[] = {{SLACK_REPO_SET, SLACK_REPO, "repo", "slack_repo_changed", "default repository"},
    {SLACK_MACHINE_SET, SLACK_MACHINE, "machine", "slack_machine_changed", "default machine"},
    {SLACK_SUMMARIES_SET, SLACK_SUMMARIES, "summaries", "slack_summaries_changed", "setting for summaries"}};

/* A sentence for her into `b`: it is not changed. */
static int refuse(
    struct tx *tx, const struct principal *who, const struct slack_command *c, const char *what, struct strbuf *b)
{
	struct why why = {0};
	int rc;

	if (!c->for_channel && !c->for_me && who->role < ROLE_ADMIN) {
		IGNORE(strbuf_addf(b,
		    "Only an administrator of the team changes the %s of the workspace. With `channel` at "
		    "the end it is that of this channel.",
		    what));
		return OK;
	}
	if (c->kind != SLACK_MACHINE_SET || c->text[0] == '\0')
		return OK;
	rc = machine_known(tx, who->user_id, c->text, clock_wall_ms(), &why);
	if (rc != ERR_INVALID)
		return rc;
	IGNORE(strbuf_addf(b, "It stays as it is: %s.", why.text));
	return OK;
}

int slack_defaults_change(struct tx *tx, const struct principal *who, const char *place, const char *channel,
    const struct slack_command *c, struct strbuf *b)
{
	const struct audit_by by = {.team_id = who->team_id, .actor = who->owner, .name = who->user_email};
	AUTO_STR me = person(who);
	const char *holder = c->for_me	      ? me
			     : c->for_channel ? channel
					      : "",
		   *value = c->text[0] != '\0' ? c->text : NULL;
	AUTO_JSON data = json_pack("{s:s, s:s, s:s*}", "workspace", place, "of", holder, "value", value);
	const char *kind;
	size_t i = 0;
	int rc;

	while (changes[i].set != c->kind)
		i++;
	kind = c->for_shared ? "shared_summaries" : changes[i].kind;
	json_put(data, "kind", kind);
	rc = refuse(tx, who, c, changes[i].what, b);
	if (rc != OK || b->len > 0)
		return rc;
	rc = store(tx, who, place, holder, kind, value);
	if (rc == OK)
		rc = audit_write(tx, &by, changes[i].event, json_incref(data));
	if (rc != OK)
		return rc;
	IGNORE(strbuf_adds(b, "Done. "));
	return slack_defaults_describe(tx, who, place, channel, changes[i].show, b);
}

static int add_known(struct tx *tx, json_t *list, struct query **q)
{
	int rc = OK;

	while ((rc = query_next(*q)) == OK) {
		const char *url = query_str(*q, 0);
		bool there = strlen(url) > REPO_BYTES || json_array_size(list) >= REPOS_MAX;
		const json_t *known;
		size_t i;

		json_array_foreach(list, i, known) there = there || strcmp(json_string_value(known), url) == 0;
		if (!there)
			json_array_append_new(list, json_string(url));
	}
	return rc == ERR_EMPTY ? OK : rc;
}

int slack_known_repos(struct tx *tx, const struct principal *who, json_t **ret)
{
	AUTO(query) of_agents = NULL;
	AUTO(query) of_pools = NULL;
	int rc = tx_query(tx, &of_agents,
	    "SELECT repo_url FROM agents WHERE owner = $1 AND status <> 'DELETED' AND repo_url <> '' ORDER BY "
	    "created_at "
	    "DESC, id LIMIT $2",
	    "si", who->owner, (int64_t)REPOS_MAX);

	*ret = json_array();
	if (rc == OK)
		rc = add_known(tx, *ret, &of_agents);
	if (rc == OK)
		rc = tx_query(tx, &of_pools,
		    "SELECT DISTINCT repo_url FROM pools WHERE team_id = $1 AND deleted_at IS NULL AND repo_url <> '' "
		    "ORDER "
		    "BY repo_url LIMIT $2",
		    "ii", who->team_id, (int64_t)REPOS_MAX);
	return rc == OK ? add_known(tx, *ret, &of_pools) : rc;
}
