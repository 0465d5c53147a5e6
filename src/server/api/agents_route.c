/* POST /v1/agents: where the agent's runs go: a pool, or a personal machine of the caller. The rules are those of
 * docs/operating.md ("Which worker serves which request"). */
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/access/policy.h"
#include "server/api/agents.h"
#include "server/fleet/machines.h"
#include "server/fleet/pools.h"
#include <string.h>

#define DEFAULT_POOL "default"

/* What the labels of a request say of where it goes: these keys are not labels of workers. */
static int take_reserved(struct agent *a, const char *key, const char *value, bool *ret_reserved, struct problem *p)
{
	AUTO_STR v = text_trim(value);
	bool pool = strcmp(key, "pool") == 0, machine = strcmp(key, "machine") == 0 || strcmp(key, "worker") == 0;

	*ret_reserved = pool || machine || strcmp(key, "repo") == 0;
	if (strcmp(key, "repo") == 0) {
		id_lower(v);
		if (strcmp(v, a->repo) != 0)
			return problem_set(p, API_validation_error,
			    "'labels': repo=%.200s is not the repository of 'repos' (%s)", v,
			    a->repo[0] != '\0' ? a->repo : "there is none");
		return OK;
	}
	if (!pool && !machine)
		return OK;
	if (strcmp(a->env_type, "cloud") == 0) {
		str_set(&a->env_type, pool ? "pool" : "machine");
		str_set(&a->env_name, v);
	} else if (strcmp(a->env_type, pool ? "pool" : "machine") != 0) {
		return problem_set(p, API_validation_error,
		    "'labels': %s=%.100s and 'env.type' %s contradict each other", key, v, a->env_type);
	} else if (strcmp(a->env_name, v) != 0) {
		return problem_set(p, API_validation_error,
		    "'labels': %s=%.100s and 'env.name' %.100s contradict each other", key, v, a->env_name);
	}
	return OK;
}

static int take_pair(struct agent *a, const char *key, const char *value, struct problem *p)
{
	bool reserved = false;
	struct why why;
	int rc;

	if (key == NULL || value == NULL)
		return problem_set(p, API_validation_error,
		    "'labels' must be a list of \"key=value\", a list of {key, value}, or an object of strings or "
		    "lists of "
		    "strings");
	rc = take_reserved(a, key, value, &reserved, p);
	if (rc != OK || reserved)
		return rc;
	if (labels_add(&a->labels, key, value, LABELS_WANTED_MAX, &why) != OK)
		return problem_set(p, API_validation_error, "'labels': %s", why.text);
	return OK;
}

static int take_text_pair(struct agent *a, const char *text, struct problem *p)
{
	const char *sign = strchr(text, '=');
	AUTO_STR key = sign != NULL ? str_ndup(text, (size_t)(sign - text)) : NULL;
	AUTO_STR trimmed = key != NULL ? text_trim(key) : NULL;

	return take_pair(a, trimmed, sign != NULL ? sign + 1 : NULL, p);
}

static int take_values(struct agent *a, const char *key, const json_t *value, struct problem *p)
{
	const json_t *v;
	size_t i;
	int rc = OK;

	if (!json_is_array(value))
		return take_pair(a, key, json_string_value(value), p);
	json_array_foreach((json_t *)value, i, v)
	{
		if (rc == OK)
			rc = take_pair(a, key, json_string_value(v), p);
	}
	return rc;
}

static int read_labels(const json_t *labels, struct agent *a, struct problem *p)
{
	const char *key;
	json_t *v;
	size_t i;
	int rc = OK;

	if (labels == NULL || json_is_null(labels))
		return OK;
	if (!json_is_array(labels) && !json_is_object(labels))
		return take_pair(a, NULL, NULL, p);
	json_array_foreach((json_t *)labels, i, v)
	{
		if (rc == OK && json_is_string(v))
			rc = take_text_pair(a, json_string_value(v), p);
		else if (rc == OK)
			rc = take_pair(a, json_string_value(json_object_get(v, "key")),
			    json_string_value(json_object_get(v, "value")), p);
	}
	if (json_is_object(labels))
		json_object_foreach((json_t *)labels, key, v)
		{
			if (rc == OK)
				rc = take_values(a, key, v, p);
		}
	return rc;
}

/* usePrivateWorker is the older way to ask for a pool; false asks for none. Workers with labels are pool workers. */
int route_read(const json_t *body, struct agent *a, struct problem *p)
{
	const json_t *own = json_object_get(body, "usePrivateWorker");
	int rc = read_labels(json_object_get(body, "labels"), a, p);
	bool cloud = strcmp(a->env_type, "cloud") == 0;

	if (rc != OK)
		return rc;
	if (own != NULL && !json_is_true(own) && (!cloud || a->labels.n > 0))
		return problem_set(p, API_validation_error, "'usePrivateWorker' false contradicts %s",
		    cloud ? "'labels'" : "the pool or machine that is asked for");
	if (cloud && (json_is_true(own) || a->labels.n > 0)) {
		str_set(&a->env_type, "pool");
		str_set(&a->env_name, DEFAULT_POOL);
	}
	if (strcmp(a->env_type, "machine") == 0 && a->labels.n > 0)
		return problem_set(
		    p, API_validation_error, "'labels' are for pools: a personal machine is chosen by its name");
	return OK;
}

static int route_to_machine(struct api_request *rq, struct tx *tx, struct agent *a, struct problem *p)
{
	AUTO_STR name = text_trim(a->env_name);
	int rc;

	if (principal_is_service_account(rq->who))
		return problem_set(
		    p, API_user_required, "personal machines belong to users: a service account has none");
	if (json_array_size(a->repos) == 0)
		return problem_set(p, API_repository_required, "'env.type' machine needs exactly one repository");
	if (json_array_size(a->repos) > 1)
		return problem_set(p, API_validation_error,
		    "'env.type' machine takes exactly one repository; only a named any-repo pool takes several");
	rc = machine_check(tx, a->team_id, rq->who->user_id, name, a->repo, a->repo_host, clock_wall_ms(), &p->why);
	if (rc == ERR_INVALID)
		p->code = API_validation_error;
	a->machine = TAKE(name);
	a->pool = str_dup("");
	a->match_repo = str_dup(a->repo);
	return rc;
}

static int route_to_pool(struct tx *tx, struct agent *a, struct problem *p)
{
	size_t n = json_array_size(a->repos);
	int rc = pool_route(tx, a->team_id, a->pool, a->repo, a->repo_host, n > 1, &a->match_repo, &p->why);

	if (rc == ERR_NOT_FOUND || rc == ERR_CONFLICT) {
		p->code = n == 0 && rc == ERR_CONFLICT ? API_repository_required : API_validation_error;
		return ERR_INVALID;
	}
	if (rc != OK)
		return rc;
	if (n == 0 && strcmp(a->pool, DEFAULT_POOL) == 0)
		return problem_set(
		    p, API_repository_required, "pool 'default' needs exactly one repository in 'repos'");
	if (n > 1 && a->match_repo[0] != '\0')
		return problem_set(p, API_validation_error, "only a named any-repo pool takes several repositories");
	return OK;
}

int agent_route(struct api_request *rq, struct tx *tx, struct agent *a, struct problem *p)
{
	bool cloud = strcmp(a->env_type, "cloud") == 0;
	const char *managed = rq->api->cfg.cloud_pool;
	AUTO_FINI(policy) policy = {0};
	int rc = policy_load(tx, a->team_id, &policy);

	if (rc != OK)
		return rc;
	if (!cloud && !policy.allow && !policy.require)
		return problem_set(p, API_feature_unavailable,
		    "self-hosted agents are switched off for this team: an administrator can allow them "
		    "(bullpen admin policy --allow on)");
	if (cloud && managed[0] == '\0')
		return problem_set(p, API_feature_unavailable, "there are no managed machines here: use env.type pool");
	if (strcmp(a->env_type, "machine") == 0)
		return route_to_machine(rq, tx, a, p);
	a->pool = str_dup(cloud ? managed : a->env_name);
	return route_to_pool(tx, a, p);
}
