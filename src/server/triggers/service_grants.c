/* Tokens that an administrator's browser lets us have, by service. */
#include "base/mem.h"
#include "server/triggers/linear_priv.h"
#include "server/triggers/slack_priv.h"
#include <string.h>

void service_grant_fini(struct service_grant *g)
{
	service_token_fini(&g->token);
	str_free(&g->place);
	str_free(&g->name);
}

static int of_linear(
    const json_t *table, const char *code, const char *redirect_uri, struct service_grant *ret, struct why *why)
{
	struct linear *linear = NULL;
	int rc = linear_new(table, &linear, why);

	if (rc == OK)
		rc = linear_grant_of_code(&linear->client, code, redirect_uri, &ret->token, why);
	if (rc == OK) {
		ret->token.seed = linear_seed_of(&linear->client);
		ret->place = str_dup("");
		ret->name = str_dup("Linear");
	}
	linear_free(&linear);
	return rc;
}

static int of_slack(
    const json_t *table, const char *code, const char *redirect_uri, struct service_grant *ret, struct why *why)
{
	AUTO(slack) slack = NULL;
	int rc = slack_new(table, &slack, why);

	return rc == OK ? slack_grant_of_code(slack, code, redirect_uri, ret, why) : rc;
}

int service_grant_of_code(const char *service, const json_t *table, const char *code, const char *redirect_uri,
    struct service_grant *ret, struct why *why)
{
	ENSURE(table != NULL);
	return strcmp(service, SERVICE_SLACK) == 0 ? of_slack(table, code, redirect_uri, ret, why)
						   : of_linear(table, code, redirect_uri, ret, why);
}
