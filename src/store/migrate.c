/* The schema, as a list of steps (migrations/) that are applied once each, in order. A step that was released is never
 * edited: a change is a new step. The text is the part of SQL that SQLite and PostgreSQL share. */
#include "store/driver.h"

static const char *const steps[] = {
#include "0001_first.sql.inc"

#include "0002_models.sql.inc"

#include "0003_nodes.sql.inc"

#include "0004_loops.sql.inc"
};

static int read_version(const struct driver *d, struct db *db, int64_t *ret)
{
	struct db_stmt *s = NULL;
	int rc = d->prepare(db, "SELECT version FROM schema_version", &s);

	if (rc != OK)
		return rc;
	*ret = 0;
	rc = d->step(s);
	if (rc == OK)
		*ret = d->integer(s, 0);
	d->finish(&s);
	return rc == ERR_EMPTY ? OK : rc;
}

int store_migrate(const struct driver *d, struct db *db, struct why *why)
{
	int64_t version = 0;
	int rc = d->script(db, "CREATE TABLE IF NOT EXISTS schema_version(version BIGINT NOT NULL)", why);

	if (rc == OK)
		rc = read_version(d, db, &version);
	if (rc != OK)
		return rc;
	if (version > (int64_t)ARRAY_LEN(steps))
		return why_set(why, ERR_CONFLICT,
		    "the store was written by a newer bullpen (schema %lld, this one knows %zu): upgrade bullpen",
		    (long long)version, ARRAY_LEN(steps));
	for (size_t i = (size_t)version; i < ARRAY_LEN(steps); i++) {
		char set[80];

		rc = d->script(db, steps[i], why);
		if (rc != OK)
			return rc;
		snprintf(set, sizeof set, "DELETE FROM schema_version; INSERT INTO schema_version VALUES(%zu)", i + 1);
		rc = d->script(db, set, why);
		if (rc != OK)
			return rc;
	}
	return OK;
}
