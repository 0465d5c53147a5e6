/* The scopes: which there are, and who has them by default. */
#include "base/mem.h"
#include "base/strbuf.h"
#include "server/access/access_priv.h"
#include <string.h>

/* A new scope is a row here, and one in the table of docs/operating.md. */
static const struct {
	const char *name;
	bool user, service_account; /* has it unless the key says otherwise */
	bool reads; /* changes nothing */
	bool admin; /* a person who is no administrator cannot give it to a key of hers */
} scopes[] = {
    {SCOPE_AGENTS_READ, true, true, true, false},
    {SCOPE_AGENTS_WRITE, true, true, false, false},
    {SCOPE_AGENTS_TEAM, false, false, true, true},
    {SCOPE_MODELS_READ, true, true, true, false},
    {SCOPE_METRICS_READ, false, false, true, true},
    {SCOPE_WORKERS_CONNECT, false, true, false, false},
    {SCOPE_MACHINES_CONNECT, true, false, false, false},
    {SCOPE_FLEET_READ, false, true, true, false},
    {SCOPE_FLEET_WRITE, false, true, false, false},
    {SCOPE_TOKENS_MINT, false, true, false, false},
    {SCOPE_MCP_WRITE, true, true, false, false},
    {SCOPE_HOOKS_WRITE, false, false, false, true},
    {SCOPE_RULES_WRITE, false, false, false, true},
    {SCOPE_TEAM_ADMIN, false, false, false, true},
    {SCOPE_AUDIT_READ, false, false, true, true},
    {SCOPE_WEBHOOKS_WRITE, false, false, false, true},
};

static const struct {
	const char *name;
	enum key_type type;
	const char *reason;
} only_of_type[] = {
    {SCOPE_WORKERS_CONNECT, KEY_SERVICE_ACCOUNT, "service_account: pool workers are no user's"},
    {SCOPE_FLEET_READ, KEY_SERVICE_ACCOUNT, "service_account: the fleet is the team's"},
    {SCOPE_FLEET_WRITE, KEY_SERVICE_ACCOUNT, "service_account: the fleet is the team's"},
    {SCOPE_TOKENS_MINT, KEY_SERVICE_ACCOUNT, "service_account: a user acts as nobody else"},
    {SCOPE_MACHINES_CONNECT, KEY_USER, "user: a service account has no machine of its own"},
};

static unsigned bit_of(const char *name, size_t len)
{
	for (size_t i = 0; i < ARRAY_LEN(scopes); i++)
		if (strlen(scopes[i].name) == len && memcmp(scopes[i].name, name, len) == 0)
			return 1U << i;
	return 0;
}

bool access_scope_is_known(const char *scope)
{
	return bit_of(scope, strlen(scope)) != 0;
}

unsigned scope_bit(const char *scope)
{
	unsigned bit = bit_of(scope, strlen(scope));

	ENSURE(bit != 0);
	return bit;
}

static char *join_scopes(unsigned set, const char *between)
{
	struct strbuf b = STRBUF(1000);

	for (size_t i = 0; i < ARRAY_LEN(scopes); i++)
		if (set & 1U << i)
			strbuf_addf(&b, "%s%s", b.len > 0 ? between : "", scopes[i].name);
	return strbuf_take(&b);
}

unsigned scopes_that_read(void)
{
	unsigned set = 0;

	for (size_t i = 0; i < ARRAY_LEN(scopes); i++)
		set |= scopes[i].reads ? 1U << i : 0;
	return set;
}

char *access_scopes_known(void)
{
	return join_scopes(~0U, ", ");
}

char *scopes_text(unsigned set)
{
	return set != 0 ? join_scopes(set, ",") : str_dup("-");
}

unsigned scopes_stored(const char *text, enum key_type type)
{
	unsigned set = 0;

	for (size_t i = 0; text == NULL && i < ARRAY_LEN(scopes); i++)
		if (type == KEY_USER ? scopes[i].user : scopes[i].service_account)
			set |= 1U << i;
	while (text != NULL && *text != '\0') {
		size_t n = strcspn(text, " ");

		set |= bit_of(text, n);
		text += n + (text[n] == ' ');
	}
	return set;
}

int scopes_read(const char *text, enum key_type type, char **ret, struct why *why)
{
	AUTO_STR known = access_scopes_known();
	unsigned set = 0;

	for (;;) {
		size_t n = strcspn(text, ",");
		unsigned bit = bit_of(text, n);

		if (bit == 0)
			return why_set(
			    why, ERR_INVALID, "unknown scope '%.*s'; known are: %s", (int)MIN(n, 60), text, known);
		set |= bit;
		if (text[n] == '\0')
			break;
		text += n + 1;
	}
	/* The link and the routes ask for the type anyway: a key that looks as if it could and cannot helps nobody. */
	for (size_t i = 0; i < ARRAY_LEN(only_of_type); i++)
		if (type != only_of_type[i].type && set & scope_bit(only_of_type[i].name))
			return why_set(
			    why, ERR_INVALID, "%s goes with --type %s", only_of_type[i].name, only_of_type[i].reason);
	*ret = join_scopes(set, " ");
	return OK;
}

bool scopes_need_admin(unsigned set)
{
	for (size_t i = 0; i < ARRAY_LEN(scopes); i++)
		if (set & 1U << i && scopes[i].admin)
			return true;
	return false;
}

bool scopes_are_within(const struct principal *p, unsigned set)
{
	return !scopes_need_admin(set) && (set & ~p->scopes) == 0;
}

bool access_scopes_are_within(const struct principal *p, const char *text)
{
	unsigned set = text == NULL ? scopes_stored(NULL, KEY_USER) : 0;

	while (text != NULL && *text != '\0') {
		size_t n = strcspn(text, ",");

		set |= bit_of(text, n);
		text += n + (text[n] == ',');
	}
	return scopes_are_within(p, set);
}

static bool is_for(const char *name, enum key_type type)
{
	for (size_t i = 0; i < ARRAY_LEN(only_of_type); i++)
		if (strcmp(only_of_type[i].name, name) == 0 && only_of_type[i].type != type)
			return false;
	return true;
}

json_t *access_scopes_offered(enum key_type type, bool admin)
{
	json_t *all = json_array();

	for (size_t i = 0; i < ARRAY_LEN(scopes); i++)
		if (is_for(scopes[i].name, type) && (admin || !scopes[i].admin))
			json_array_append_new(all, json_pack("{s:s, s:b}", "name", scopes[i].name, "default",
						       type == KEY_USER ? scopes[i].user : scopes[i].service_account));
	return all;
}
