/* Where it runs: what was asked for, and what the team's administrators decided. */
#include "base/mem.h"
#include "base/repo_url.h"
#include "base/strbuf.h"
#include "server/access/policy.h"
#include "server/fleet/pools.h"
#include "server/triggers/surface.h"
#include <string.h>

#define POOLS_NAMED 10
#define ALLOW_OFF                                                                                                      \
	"Self-hosted runs are turned off for this team. Ask an admin to allow them, or leave out the self-hosted "     \
	"options."

static int name_pools(struct tx *tx, int64_t team_id, struct strbuf *b)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT DISTINCT name FROM pools WHERE team_id = $1 AND deleted_at IS NULL ORDER BY name LIMIT $2", "ii",
	    team_id, (int64_t)POOLS_NAMED);

	while (rc == OK && (rc = query_next(q)) == OK)
		IGNORE(strbuf_addf(b, "%s%s", b->len > 0 ? ", " : "", query_str(q, 0)));
	return rc == ERR_EMPTY ? OK : rc;
}

static int check_pool(
    struct tx *tx, const struct principal *who, const char *pool, const char *repo_url, struct why *why)
{
	AUTO_STR host = NULL;
	AUTO_STR repo = repo_url != NULL ? repo_url_label(repo_url, &host) : NULL;
	AUTO_STR match = NULL;
	struct strbuf names = STRBUF(2048);
	struct why reason = {0};
	int rc = pool_route(
	    tx, who->team_id, pool, repo != NULL ? repo : "", host != NULL ? host : "", false, &match, &reason);

	if (rc == ERR_CONFLICT && repo == NULL)
		return why_set(why, ERR_INVALID,
		    "I could not tell which repository you mean, and pool \"%s\" needs one. Add `repo=owner/name`.",
		    pool);
	if (rc == ERR_CONFLICT)
		return why_set(why, ERR_INVALID, "Pool \"%s\" does not serve this repository: %s", pool, reason.text);
	if (rc != ERR_NOT_FOUND)
		return rc;
	rc = name_pools(tx, who->team_id, &names);
	if (rc == OK)
		rc = why_set(why, ERR_INVALID, "There is no pool \"%s\". Pools you can use: %s.", pool,
		    names.len > 0 ? strbuf_str(&names) : "default");
	strbuf_fini(&names);
	return rc;
}

static json_t *env_of(const char *type, const char *name)
{
	json_t *env = json_pack("{s:s}", "type", type);

	json_put(env, "name", name);
	return env;
}

int target_choose(struct triggers *t, struct tx *tx, const struct surface *s, const struct principal *who,
    const struct asked *a, const struct trigger_options *o, const char *repo_url, struct target *ret, struct why *why)
{
	AUTO_FINI(policy) policy = {0};
	const char *pool = a->default_pool != NULL ? a->default_pool : "default";
	int rc = policy_load(tx, who->team_id, &policy);
	bool wants = o->pool != NULL || o->worker != NULL || o->self_hosted == 1;

	if (rc != OK)
		return rc;
	/* A stranger directs nothing; where the team's machines are required, she is not served at all. */
	if (!a->trusted && (policy.require || !triggers_settings(t)->cloud_pool_untrusted))
		return why_set(why, ERR_EMPTY, "the asker is not trusted here");
	if (!a->trusted)
		wants = false;
	if (wants && !policy.allow && !policy.require)
		return why_set(why, ERR_INVALID, "%s", s->allow_off != NULL ? s->allow_off : ALLOW_OFF);
	if (wants && o->worker != NULL) {
		ret->env = env_of("machine", o->worker);
		return OK;
	}
	if (o->pool != NULL)
		pool = o->pool;
	if (wants) {
		ret->env = env_of("pool", pool);
		return check_pool(tx, who, pool, repo_url, why);
	}
	if (o->self_hosted == 0 && policy.require)
		ret->note = "This team requires self-hosted runs, so `self_hosted=false` was ignored.";
	/* A machine of her own comes first, and stands for nothing else: one that cannot do it is an error. */
	if (a->default_machine != NULL && (policy.allow || policy.require) && a->trusted &&
	    (o->self_hosted != 0 || policy.require)) {
		ret->env = env_of("machine", a->default_machine);
		return OK;
	}
	/* Where people ask may have a pool of its own, while the team allows that. */
	if (policy.require || (a->default_pool != NULL && policy.allow && o->self_hosted != 0)) {
		ret->env = env_of("pool", pool);
		return check_pool(tx, who, pool, repo_url, why);
	}
	if (triggers_cfg(t)->cloud_pool[0] == '\0')
		return why_set(why, ERR_INVALID,
		    "No managed capacity is configured here. Use `pool=NAME` or ask an admin to set a default pool.");
	ret->env = env_of("cloud", NULL);
	return OK;
}
