/* What is said to us in Slack and is no request: the commands, and what a workspace or a channel has decided. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include "server/access/policy.h"
#include "server/audit/audit.h"
#include "server/triggers/slack_priv.h"
#include <string.h>

#define ANSWER_MAX ((size_t)4000)
#define LIST_MAX 20

static const char help[] =
    "Say what is to be done, behind the mention; in a thread that has an agent it goes on with that one.\n"
    "• `agent …` starts a new one in such a thread\n"
    "• `pool=NAME`, `worker=NAME`, `self_hosted=true`, `repo=owner/name`, `branch=NAME`, `model=ID`, `autopr=false` "
    "stand anywhere in the text\n"
    "• `list my agents` shows those of yours that work\n"
    "• `settings` shows what holds here\n"
    "• `pool`, `pool set NAME`, `pool unset` show and change the default pool of the workspace; with `channel` at the "
    "end, that of the channel\n"
    "• `repo set owner/name` likewise the default repository; with `me` at the end your own; `machine set NAME` your "
    "own "
    "machine, which goes before the pools\n"
    "• `summaries off`, with `channel` at the end there, leaves results out of the answers; `summaries on shared` says "
    "them in channels that are shared with other organisations, too";

/* *ret: malloc'ed; NULL: none is set. */
static int pool_load(struct tx *tx, const struct principal *who, const char *place, const char *channel, char **ret)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q, "SELECT pool FROM slack_pools WHERE team_id = $1 AND place = $2 AND channel = $3",
	    "iss", who->team_id, place, channel);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc == ERR_EMPTY ? OK : rc;
	*ret = str_dup(query_str(q, 0));
	return OK;
}

static bool is_known_repo(struct tx *tx, const struct principal *who, const char *name)
{
	int64_t n = 0;
	AUTO_STR end = str_printf("/%s", name);

	return tx_query_int(tx, &n,
		   "SELECT COUNT(*) FROM pools WHERE team_id = $1 AND deleted_at IS NULL AND (LOWER(repo) = LOWER($2) "
		   "OR LOWER(repo) LIKE '%' || LOWER($3))",
		   "iss", who->team_id, name, end) == OK &&
	       n > 0;
}

/* Plain words stand behind options, and only for what exists. */
static void take_phrases(struct tx *tx, const struct principal *who, struct trigger_options *o)
{
	struct slack_phrases p = {0};

	if (o->prompt == NULL)
		return;
	slack_phrases_of(o->prompt, inside_has_model, &p);
	if (o->repo == NULL && p.repo != NULL && is_known_repo(tx, who, p.repo))
		o->repo = TAKE(p.repo);
	if (o->branch == NULL && p.branch != NULL)
		o->branch = TAKE(p.branch);
	if (o->model == NULL && p.model != NULL)
		o->model = TAKE(p.model);
	slack_phrases_fini(&p);
}

int slack_settle(struct triggers *t, struct tx *tx, const struct principal *who, const struct inbox_row *row,
    struct asked *a, struct trigger_options *o, struct why *why)
{
	int rc = pool_load(tx, who, row->place, json_word(a->at, "channel"), &a->default_pool);

	if (a->repo_instead != NULL && !trigger_is_repo(a->repo_instead))
		return why_set(why, ERR_INVALID, "\"%.100s\" is not a valid value for repo. Example: repo=owner/name",
		    a->repo_instead);
	if (a->repo_instead != NULL)
		str_set(&o->repo, a->repo_instead);
	if (rc == OK && a->default_pool == NULL)
		rc = pool_load(tx, who, row->place, "", &a->default_pool);
	if (rc != OK)
		return rc;
	if (o->env != NULL)
		return why_set(why, ERR_INVALID,
		    "There is no environment \"%.100s\": none are kept here. Use `repo=owner/name` and `pool=NAME`.",
		    o->env);
	/* Slack writes a channel that was chosen from its list as an id. */
	if (o->channel != NULL && !text_is_token(o->channel, "", SLACK_ID_MAX))
		return why_set(why, ERR_INVALID,
		    "\"%.100s\" is not a valid value for channel. Example: channel=#builds, chosen from the list that "
		    "Slack offers.",
		    o->channel);
	json_put(a->at, "post", o->channel);
	take_phrases(tx, who, o);
	return slack_defaults_settle(tx, who, row->place, a, o);
}

static int list_agents(struct triggers *t, struct tx *tx, const struct principal *who, struct strbuf *b)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT a.id, a.name FROM agents a WHERE a.owner = $1 AND a.status NOT IN ('DELETED', 'ARCHIVED') AND "
	    "EXISTS (SELECT 1 FROM runs r WHERE r.agent_id = a.id AND r.status IN ('CREATING', 'RUNNING')) ORDER BY "
	    "a.created_at DESC LIMIT $2",
	    "si", who->owner, (int64_t)LIST_MAX);

	while (rc == OK && (rc = query_next(q)) == OK) {
		AUTO_STR url = inside_agent_url(triggers_api(t), query_str(q, 0));
		AUTO_STR name = text_line(query_str(q, 1), 100);

		IGNORE(strbuf_addf(b, "• %s %s\n", name, url));
	}
	if (rc != ERR_EMPTY)
		return rc;
	if (b->len == 0)
		IGNORE(strbuf_adds(b, "No agent of yours works at the moment."));
	return OK;
}

static int describe_pools(
    struct tx *tx, const struct principal *who, const char *place, const char *channel, struct strbuf *b)
{
	AUTO_STR of_all = NULL;
	AUTO_STR of_channel = NULL;
	AUTO_FINI(policy) policy = {0};
	int rc = pool_load(tx, who, place, "", &of_all);

	if (rc == OK)
		rc = pool_load(tx, who, place, channel, &of_channel);
	if (rc == OK)
		rc = policy_load(tx, who->team_id, &policy);
	IGNORE(strbuf_addf(b, "Default pool of the workspace: %s. Of this channel: %s.",
	    of_all != NULL ? of_all : "none", of_channel != NULL ? of_channel : "none"));
	if (rc == OK && !policy.allow && !policy.require)
		IGNORE(strbuf_adds(b, " They do not count, because self-hosted runs are turned off for this team."));
	return rc;
}

static int pool_exists(struct tx *tx, const struct principal *who, const char *pool, bool *ret)
{
	int64_t n = 0;
	int rc =
	    tx_query_int(tx, &n, "SELECT COUNT(*) FROM pools WHERE team_id = $1 AND name = $2 AND deleted_at IS NULL",
		"is", who->team_id, pool);

	*ret = n > 0 || strcmp(pool, "default") == 0;
	return rc;
}

static int write_pool(
    struct tx *tx, const struct principal *who, const char *place, const char *channel, const char *pool, int64_t now)
{
	if (pool == NULL)
		return tx_exec(tx, "DELETE FROM slack_pools WHERE team_id = $1 AND place = $2 AND channel = $3", "iss",
		    who->team_id, place, channel);
	return tx_exec(tx,
	    "INSERT INTO slack_pools(team_id, place, channel, pool, set_by, set_at) VALUES($1, $2, $3, $4, $5, $6) ON "
	    "CONFLICT(team_id, place, channel) DO UPDATE SET pool = excluded.pool, set_by = excluded.set_by, set_at = "
	    "excluded.set_at",
	    "isssii", who->team_id, place, channel, pool, who->user_id, now);
}

/* The workspace's is for administrators of the team; a channel's for any member. */
static int change_pool(struct tx *tx, const struct principal *who, const struct inbox_row *row, const char *channel,
    const struct slack_command *c, struct strbuf *b)
{
	const char *pool = c->kind == SLACK_POOL_SET ? c->pool : NULL;
	const char *where = c->for_channel ? channel : "";
	const struct audit_by by = {.team_id = who->team_id, .actor = who->owner, .name = who->user_email};
	AUTO_JSON data = json_pack("{s:s, s:s, s:s*}", "workspace", row->place, "channel", where, "pool", pool);
	bool exists = true;
	int rc = OK;

	if (!c->for_channel && who->role < ROLE_ADMIN) {
		IGNORE(strbuf_adds(b,
		    "Only an administrator of the team changes the default pool of the workspace. `pool set "
		    "NAME channel` changes that of this channel."));
		return OK;
	}
	if (pool != NULL)
		rc = pool_exists(tx, who, pool, &exists);
	if (rc != OK)
		return rc;
	if (!exists) {
		IGNORE(strbuf_addf(b, "There is no pool \"%s\".", pool));
		return OK;
	}
	rc = write_pool(tx, who, row->place, where, pool, clock_wall_ms());
	if (rc == OK)
		rc = audit_write(tx, &by, "slack_pool_changed", json_incref(data));
	if (rc != OK)
		return rc;
	IGNORE(strbuf_adds(b, "Done. "));
	return describe_pools(tx, who, row->place, channel, b);
}

/* What people who look after the server ask for: by which its log is searched. */
static int show_id(struct tx *tx, const struct inbox_row *row, const struct asked *a, char **ret)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT r.id, r.request_id FROM conversations c JOIN agents a ON a.id = c.agent_id JOIN runs r ON r.id = "
	    "a.latest_run_id WHERE c.agent_id = $1 AND c.surface = 'slack' AND c.place = $2",
	    "ss", a->agent_id, row->place);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK && rc != ERR_EMPTY)
		return rc;
	*ret = rc == OK ? str_printf("Request %s, run %s, agent %s.", query_str(q, 1), query_str(q, 0), a->agent_id)
			: str_dup("This agent is not there any more.");
	return OK;
}

int slack_command(struct triggers *t, struct tx *tx, const struct principal *who, const struct inbox_row *row,
    const struct asked *a, char **ret)
{
	const struct slack_command c = a->agent_id == NULL && a->repo_instead == NULL && a->text != NULL
					   ? slack_command_of(a->text)
					   : (struct slack_command){0};
	const char *channel = json_word(a->at, "channel");
	struct strbuf b = STRBUF(ANSWER_MAX);
	int rc = OK;

	if (a->shows_id)
		return show_id(tx, row, a, ret);
	if (c.for_channel && a->closed_place) {
		*ret = str_dup("What is set for a channel is for public ones, and this is none.");
		return OK;
	}
	switch (c.kind) {
	case SLACK_NONE:
		return ERR_EMPTY;
	case SLACK_LIST:
		rc = list_agents(t, tx, who, &b);
		break;
	case SLACK_HELP:
		IGNORE(strbuf_adds(&b, help));
		break;
	case SLACK_POOL:
	case SLACK_SETTINGS:
		rc = describe_pools(tx, who, row->place, channel, &b);
		if (rc == OK && c.kind == SLACK_SETTINGS)
			rc = slack_defaults_describe(tx, who, row->place, channel, c.kind, &b);
		break;
	case SLACK_REPO:
	case SLACK_MACHINE:
	case SLACK_SUMMARIES:
		rc = slack_defaults_describe(tx, who, row->place, channel, c.kind, &b);
		break;
	case SLACK_REPO_SET:
	case SLACK_MACHINE_SET:
	case SLACK_SUMMARIES_SET:
		rc = slack_defaults_change(tx, who, row->place, channel, &c, &b);
		break;
	default:
		rc = change_pool(tx, who, row, channel, &c, &b);
	}
	*ret = strbuf_take(&b);
	return rc;
}
