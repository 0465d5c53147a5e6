/* The schema, as a list of steps (migrations/) that are applied once each, in order, each in a
 * transaction of its own. A step that was released is never
 * edited: a change is a new step. The text is the part of SQL that SQLite and PostgreSQL share; behind a table,
 * the comment "clustered" asks the driver to keep the rows in the order of their key, if its database can. */
#include "store/driver.h"

static const struct step {
	int number; /* the one in the file's name */
	const char *sql;
} steps[] = {
    {
	1,
#include "0001_first.sql.inc"
    },
    {
	2,
#include "0002_models.sql.inc"
    },
    {
	3,
#include "0003_nodes.sql.inc"
    },
    {
	4,
#include "0004_loops.sql.inc"
    },
    {
	5,
#include "0005_fleet.sql.inc"
    },
    {
	6,
#include "0006_pool.sql.inc"
    },
    {
	7,
#include "0007_pool_indexes.sql.inc"
    },
    {
	8,
#include "0008_lifecycle.sql.inc"
    },
    {
	9,
#include "0009_drain.sql.inc"
    },
    {
	10,
#include "0010_api.sql.inc"
    },
    {
	11,
#include "0011_mcp.sql.inc"
    },
    {
	12,
#include "0012_hooks.sql.inc"
    },
    {
	13,
#include "0013_context.sql.inc"
    },
    {
	14,
#include "0014_web.sql.inc"
    },
    {
	15,
#include "0015_background.sql.inc"
    },
    {
	16,
#include "0016_user_rules.sql.inc"
    },
    {
	17,
#include "0017_sharing.sql.inc"
    },
    {
	18,
#include "0018_audit.sql.inc"
    },
    {
	19,
#include "0019_forges.sql.inc"
    },
    {
	20,
#include "0020_triggers.sql.inc"
    },
    {
	21,
#include "0021_people.sql.inc"
    },
    {
	22,
#include "0022_slack.sql.inc"
    },
    {
	23,
#include "0023_automations.sql.inc"
    },
    {
	24,
#include "0024_artifacts.sql.inc"
    },
    {
	25,
#include "0025_chat.sql.inc"
    },
    {
	26,
#include "0026_forges_more.sql.inc"
    },
};

/* A file that says it is ours and lacks one of these is not; the first statement would abort over it. */
static const char *const must_have[] = {"teams", "users", "api_keys", "agents", "runs", "workers", "claims"};

static int refuse(struct why *why, const char *what)
{
	struct why reason = why != NULL ? *why : (struct why){0};

	return why_set(why, ERR_INVALID, "the database is not one of bullpen's, or damaged: %s%s%s", what,
	    reason.text[0] != '\0' ? ": " : "", reason.text);
}

/* In a transaction. 0: an empty database, or one where nothing was applied yet. */
static int read_version(const struct driver *d, struct db *db, int64_t *ret, struct why *why)
{
	int64_t rows = 0, tables = 0, version = 0, named = 0;
	int rc = d->count_tables(db, NULL, &tables, why);

	if (rc == OK)
		rc = d->count_tables(db, "schema_version", &named, why);
	if (rc != OK)
		return rc;
	if (named == 0 && tables > 0)
		return refuse(why, "it has tables, but not schema_version");
	if (named == 0) {
		*ret = 0;
		return d->script(db, "CREATE TABLE schema_version(version BIGINT NOT NULL)", why);
	}
	rc = d->ask(db, "SELECT COUNT(*) FROM schema_version", &rows, why);
	if (rc == OK && rows > 0)
		rc = d->ask(db, "SELECT version FROM schema_version", &version, why);
	if (rc == ERR_INVALID || rows > 1 || version < 0)
		return refuse(why, "schema_version has nonsense");
	if (rc == OK)
		*ret = version;
	return rc;
}

static int check_tables(const struct driver *d, struct db *db, struct why *why)
{
	for (size_t i = 0; i < ARRAY_LEN(must_have); i++) {
		int64_t n = 0;
		int rc = d->count_tables(db, must_have[i], &n, why);

		if (rc != OK)
			return rc;
		if (n != 1)
			return refuse(why, "a table is missing");
	}
	return OK;
}

/* In a transaction. ERR_EMPTY: there is no further step. */
static int apply_next(const struct driver *d, struct db *db, struct why *why)
{
	int64_t version = 0;
	char set[96];
	int rc = read_version(d, db, &version, why);

	if (rc != OK)
		return rc;
	if (version > (int64_t)ARRAY_LEN(steps))
		return why_set(why, ERR_CONFLICT,
		    "the store was written by a newer bullpen (schema %lld, this one knows %zu): upgrade bullpen",
		    (long long)version, ARRAY_LEN(steps));
	if (version == (int64_t)ARRAY_LEN(steps)) {
		rc = check_tables(d, db, why);
		return rc != OK ? rc : ERR_EMPTY;
	}
	ENSURE(steps[version].number == version + 1);
	rc = d->script(db, steps[version].sql, why);
	if (rc != OK)
		return rc;
	snprintf(set, sizeof set, "DELETE FROM schema_version; INSERT INTO schema_version VALUES(%d)",
	    steps[version].number);
	return d->script(db, set, why);
}

/* The version is read again in each transaction: another process (`bullpen admin`) may migrate at the same time. */
int store_migrate(const struct driver *d, struct db *db, struct why *why)
{
	int rc;

	do {
		rc = d->begin(db, true);
		if (rc == OK)
			rc = apply_next(d, db, why);
		if (rc == OK)
			rc = d->commit(db);
		else
			d->rollback(db);
	} while (rc == OK);
	if (rc != ERR_EMPTY)
		return rc;
	return d->settle != NULL ? d->settle(db, why) : OK;
}
