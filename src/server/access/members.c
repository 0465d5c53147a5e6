#include "server/access/members.h"
#include "base/clock.h"
#include "base/mem.h"
#include "server/access/access_priv.h"
#include <string.h>

static const char *const names[] = {
    [ROLE_MEMBER] = "member", [ROLE_AUDITOR] = "auditor", [ROLE_ADMIN] = "admin", [ROLE_OWNER] = "owner"};

const char *role_name(enum role r)
{
	return names[r];
}

bool role_parse(const char *name, enum role *ret)
{
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (strcmp(names[i], name) == 0) {
			*ret = (enum role)i;
			return true;
		}
	return false;
}

enum role role_stored(const char *text)
{
	enum role r = ROLE_MEMBER;

	return text != NULL && role_parse(text, &r) ? r : ROLE_MEMBER;
}

int members_list(struct tx *tx, int64_t team_id, json_t **ret)
{
	AUTO_JSON items = json_array();
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT u.id, u.name, u.email, u.role, u.created_at, (SELECT MIN(i.issuer) FROM identities i WHERE "
	    "i.user_id "
	    "= u.id) FROM users u WHERE u.team_id = $1 ORDER BY u.id",
	    "i", team_id);

	while (rc == OK && (rc = query_next(q)) == OK) {
		json_t *o = json_object();
		char when[CLOCK_ISO_LEN];

		clock_iso8601(query_int(q, 4), when);
		json_put_int(o, "id", query_int(q, 0));
		json_put(o, "name", query_str(q, 1));
		json_put(o, "email", query_text(q, 2));
		json_put(o, "role", role_name(role_stored(query_text(q, 3))));
		json_put(o, "createdAt", when);
		json_put(o, "signsInWith", query_text(q, 5));
		json_array_append_new(items, o);
	}
	if (rc != ERR_EMPTY)
		return rc;
	*ret = TAKE(items);
	return OK;
}

int member_write_role(struct tx *tx, const struct audit_by *by, int64_t user_id, enum role was, enum role role)
{
	int rc =
	    was == role ? OK : tx_exec(tx, "UPDATE users SET role = $2 WHERE id = $1", "is", user_id, role_name(role));

	if (rc == OK && was != role)
		rc = audit_write(tx, by, "update_user_role",
		    json_pack("{s:I, s:s, s:s}", "userId", (json_int_t)user_id, "before", role_name(was), "after",
			role_name(role)));
	return rc != OK || was < ROLE_ADMIN || role >= ROLE_ADMIN ? rc : access_end_keys_of_admins(tx, by, user_id);
}

/* Those beside this person. */
struct others {
	int64_t owners, admins;
};

static int count_others(struct tx *tx, int64_t team_id, int64_t user_id, struct others *ret)
{
	int rc = tx_query_int(tx, &ret->owners,
	    "SELECT COUNT(*) FROM users WHERE team_id = $1 AND id <> $2 AND role = 'owner'", "ii", team_id, user_id);

	return rc != OK ? rc
			: tx_query_int(tx, &ret->admins,
			      "SELECT COUNT(*) FROM users WHERE team_id = $1 AND id <> $2 AND role = 'admin'", "ii",
			      team_id, user_id);
}

int member_set_role(struct tx *tx, const struct principal *who, const struct audit_by *by, int64_t user_id,
    enum role role, struct why *why)
{
	AUTO_STR present = NULL;
	struct others others = {0};
	enum role was;
	int rc = tx_query_text(
	    tx, &present, "SELECT role FROM users WHERE id = $1 AND team_id = $2", "ii", user_id, who->team_id);

	if (rc == OK)
		rc = count_others(tx, who->team_id, user_id, &others);
	if (rc != OK)
		return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
	was = role_stored(present);
	if (was == role)
		return OK;
	if (was == ROLE_OWNER && who->user_id != user_id)
		return why_set(why, ERR_DENIED, "only an owner changes the own role: nobody else does");
	if (was == ROLE_OWNER && others.owners == 0)
		return why_set(why, ERR_DENIED, "the team needs an owner: make another person one first");
	if (role == ROLE_OWNER && who->role != ROLE_OWNER)
		return why_set(why, ERR_DENIED, "only an owner makes another person one");
	/* A team has no owner if the OpenID provider alone says who is an administrator. */
	if (was == ROLE_ADMIN && role < ROLE_ADMIN && others.owners + others.admins == 0)
		return ERR_CONFLICT;
	return member_write_role(tx, by, user_id, was, role);
}

struct setting {
	const struct audit_by *by;
	const char *email;
	enum role role;
};

static int set_in(struct tx *tx, void *arg)
{
	const struct setting *s = arg;
	AUTO_STR present = NULL;
	struct others others = {0};
	int64_t user = 0;
	int rc = access_find_user(tx, "", s->email, &user);

	if (rc == OK)
		rc = tx_query_text(
		    tx, &present, "SELECT role FROM users WHERE id = $1 AND team_id = $2", "ii", user, s->by->team_id);
	if (rc == OK)
		rc = count_others(tx, s->by->team_id, user, &others);
	if (rc != OK)
		return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
	return member_write_role(
	    tx, s->by, user, role_stored(present), s->role == ROLE_ADMIN && others.owners == 0 ? ROLE_OWNER : s->role);
}

int user_set_role(struct store *st, const struct audit_by *by, const char *email, enum role role)
{
	struct setting s = {by, email, role};

	return store_write(st, set_in, &s);
}
