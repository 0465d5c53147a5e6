/* From SQLite to PostgreSQL, in one transaction of each: what is there afterwards is all of it or nothing. Every row is
 * read again from both sides and compared before it is committed. Rows travel as JSON, which both databases' types
 * (text and 64-bit integers) survive exactly. */
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "store/store_priv.h"
#include <string.h>
#include <unistd.h>

#define BATCH_ROWS 500
#define BATCH_BYTES (4 * 1024 * 1024)
#define STATEMENT_MAX 65536
#define COLUMNS_MAX 64

struct copying {
	const struct driver *from_driver, *to_driver;
	struct db *from, *to;
	json_t *kept; /* the text of each statement: connections know them by their address until they are closed */
	struct why *why;
};

struct table {
	const char *name;
	json_t *columns; /* names */
	bool text[COLUMNS_MAX];
	const char *list, *key; /* "a", "b" of all columns and of the primary key */
};

static const char *keep(struct copying *c, char *text)
{
	json_t *s = json_string(text);

	ENSURE(s != NULL);
	free(text);
	json_array_append_new(c->kept, s);
	return json_string_value(s);
}

static int start(const struct driver *d, struct db *db, const char *sql, struct db_stmt **ret, const char *types, ...)
{
	va_list ap;
	int rc = d->prepare(db, sql, ret);

	if (rc != OK)
		return rc;
	va_start(ap, types);
	rc = d->bind(*ret, false, types, ap);
	va_end(ap);
	if (rc != OK)
		d->finish(ret);
	return rc;
}

static int list_tables(struct copying *c, json_t *ret)
{
	struct db_stmt *s = NULL;
	int rc = start(c->from_driver, c->from,
	    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> "
	    "'schema_version'"
	    " ORDER BY name",
	    &s, "");

	while (rc == OK && (rc = c->from_driver->step(s)) == OK)
		json_array_append_new(ret, json_string(c->from_driver->text(s, 0)));
	c->from_driver->finish(&s);
	return rc == ERR_EMPTY ? OK : rc;
}

static int describe_table(struct copying *c, struct table *t)
{
	AUTO_FINI(strbuf) list = STRBUF(STATEMENT_MAX);
	AUTO_FINI(strbuf) key = STRBUF(STATEMENT_MAX);
	struct db_stmt *s = NULL;
	const struct driver *d = c->from_driver;
	int rc = start(d, c->from, "SELECT name, type, pk FROM pragma_table_info($1) ORDER BY cid", &s, "s", t->name);

	while (rc == OK && (rc = d->step(s)) == OK) {
		size_t n = json_array_size(t->columns);

		ENSURE(n < COLUMNS_MAX);
		t->text[n] = strcmp(d->text(s, 1), "TEXT") == 0;
		strbuf_addf(&list, "%s\"%s\"", n > 0 ? ", " : "", d->text(s, 0));
		if (d->integer(s, 2) > 0)
			strbuf_addf(&key, "%s\"%s\"", key.len > 0 ? ", " : "", d->text(s, 0));
		json_array_append_new(t->columns, json_string(d->text(s, 0)));
	}
	d->finish(&s);
	t->list = keep(c, strbuf_take(&list));
	t->key = keep(c, strbuf_take(&key));
	ENSURE(rc != ERR_EMPTY || t->key[0] != '\0'); /* our schema: every table has one */
	return rc == ERR_EMPTY ? OK : rc;
}

static int read_from(struct copying *c, const struct table *t, struct db_stmt **ret)
{
	return start(c->from_driver, c->from,
	    keep(c, str_printf("SELECT %s FROM \"%s\" ORDER BY %s", t->list, t->name, t->key)), ret, "");
}

/* A flaw of the damaged kind is met here: an integer that is none. */
static int row_of(struct copying *c, const struct table *t, struct db_stmt *s, json_t *row, size_t *ret_bytes)
{
	const struct driver *d = c->from_driver;
	const char *name;
	json_t *column, *v;
	size_t i;

	json_array_foreach(t->columns, i, column)
	{
		name = json_string_value(column);
		if (d->is_null(s, (int)i))
			continue;
		v = t->text[i] ? json_string(d->text(s, (int)i)) : json_integer(d->integer(s, (int)i));
		if (v == NULL)
			return why_set(c->why, ERR_INVALID, "%s.%s has text that is not UTF-8", t->name, name);
		*ret_bytes += 16 + strlen(name) + (t->text[i] ? json_string_length(v) : 8);
		json_object_set_new(row, name, v);
	}
	return OK;
}

static int write_rows(struct copying *c, const struct table *t, const char *insert, json_t *rows)
{
	AUTO_STR text = json_text(rows);
	struct db_stmt *s = NULL;
	int rc = start(c->to_driver, c->to, insert, &s, "s", text);

	while (rc == OK)
		rc = c->to_driver->step(s);
	c->to_driver->finish(&s);
	if (rc == ERR_EMPTY && c->to_driver->changed(c->to) == (int64_t)json_array_size(rows)) {
		json_array_clear(rows);
		return OK;
	}
	return why_set(
	    c->why, rc == ERR_EMPTY ? ERR_INTERNAL : rc, "the rows of %s cannot be written: %s", t->name, err_text(rc));
}

static int copy_rows(struct copying *c, const struct table *t, int64_t *ret_rows)
{
	const char *insert = keep(
	    c, str_printf("INSERT INTO \"%s\" SELECT * FROM json_populate_recordset(NULL::\"%s\", CAST($1 AS JSON))",
		   t->name, t->name));
	AUTO_JSON rows = json_array();
	struct db_stmt *s = NULL;
	size_t bytes = 0;
	int rc = read_from(c, t, &s);

	while (rc == OK && (rc = c->from_driver->step(s)) == OK) {
		json_t *row = json_object();

		json_array_append_new(rows, row);
		rc = row_of(c, t, s, row, &bytes);
		*ret_rows += 1;
		if (rc == OK && (json_array_size(rows) == BATCH_ROWS || bytes > BATCH_BYTES)) {
			rc = write_rows(c, t, insert, rows);
			bytes = 0;
		}
	}
	c->from_driver->finish(&s);
	if (rc == ERR_EMPTY)
		rc = json_array_size(rows) > 0 ? write_rows(c, t, insert, rows) : OK;
	return rc;
}

static bool same_row(struct copying *c, const struct table *t, struct db_stmt *a, struct db_stmt *b)
{
	for (size_t i = 0; i < json_array_size(t->columns); i++) {
		bool null = c->from_driver->is_null(a, (int)i);

		if (null != c->to_driver->is_null(b, (int)i))
			return false;
		if (!null && strcmp(c->from_driver->text(a, (int)i), c->to_driver->text(b, (int)i)) != 0)
			return false;
	}
	return true;
}

/* The next of the copied rows, a page of the cursor at a time. */
static int next_copied(struct copying *c, struct db_stmt **page)
{
	int rc = *page != NULL ? c->to_driver->step(*page) : ERR_EMPTY;

	if (rc != ERR_EMPTY)
		return rc;
	c->to_driver->finish(page);
	rc = start(c->to_driver, c->to, "FETCH FORWARD 500 FROM copied", page, "");
	return rc != OK ? rc : c->to_driver->step(*page);
}

static int compare_rows(struct copying *c, const struct table *t, int64_t rows)
{
	AUTO_STR open = str_printf(
	    "DECLARE copied NO SCROLL CURSOR FOR SELECT %s FROM \"%s\" ORDER BY %s", t->list, t->name, t->key);
	struct db_stmt *a = NULL, *b = NULL;
	int64_t n = 0;
	int rc = c->to_driver->script(c->to, open, c->why);

	if (rc == OK)
		rc = read_from(c, t, &a);
	while (rc == OK && (rc = c->from_driver->step(a)) == OK && (rc = next_copied(c, &b)) == OK) {
		if (!same_row(c, t, a, b))
			rc = why_set(
			    c->why, ERR_INTERNAL, "row %lld of %s is not the same in both", (long long)n + 1, t->name);
		n++;
	}
	if (rc == ERR_EMPTY && n == rows && next_copied(c, &b) == ERR_EMPTY)
		rc = OK;
	else if (rc == ERR_EMPTY)
		rc = why_set(c->why, ERR_INTERNAL, "%s has not as many rows in both", t->name);
	c->from_driver->finish(&a);
	c->to_driver->finish(&b);
	return rc != OK ? rc : c->to_driver->script(c->to, "CLOSE copied", c->why);
}

static int copy_table(struct copying *c, const char *name, store_copy_fn *tell, void *ctx)
{
	struct table t = {.name = name, .columns = json_array()};
	int64_t rows = 0;
	int rc = describe_table(c, &t);

	if (rc == OK)
		rc = copy_rows(c, &t, &rows);
	if (rc == OK)
		rc = compare_rows(c, &t, rows);
	if (rc == OK)
		tell(ctx, name, rows);
	json_decref(t.columns);
	return rc;
}

/* The schema itself makes the first team. */
static int must_be_empty(struct copying *c, const json_t *tables)
{
	json_t *name;
	size_t i;

	json_array_foreach(tables, i, name)
	{
		int64_t n = 0;
		AUTO_STR sql = str_printf("SELECT COUNT(*) FROM \"%s\"", json_string_value(name));
		int rc = c->to_driver->ask(c->to, sql, &n, c->why);

		if (rc != OK)
			return rc;
		if (n > (strcmp(json_string_value(name), "teams") == 0))
			return why_set(c->why, ERR_CONFLICT,
			    "the database is in use, its table %s has rows: name an empty one",
			    json_string_value(name));
	}
	return c->to_driver->script(c->to, "DELETE FROM teams", c->why);
}

static int copy_all(struct copying *c, store_copy_fn *tell, void *ctx)
{
	AUTO_JSON tables = json_array();
	json_t *name;
	size_t i;
	int rc = list_tables(c, tables);

	if (rc == OK)
		rc = must_be_empty(c, tables);
	json_array_foreach(tables, i, name)
	{
		if (rc == OK)
			rc = copy_table(c, json_string_value(name), tell, ctx);
	}
	return rc;
}

static int open_side(const struct driver *d, const char *place, struct db **ret, struct why *why)
{
	int rc = d->open(place, true, ret, why);

	return rc != OK ? rc : store_migrate(d, *ret, why);
}

int store_copy(const char *dir, const char *place, store_copy_fn *tell, void *ctx, struct why *why)
{
	struct why own = {""};
	struct copying c = {.from_driver = &driver_sqlite,
	    .to_driver = &driver_postgresql,
	    .kept = json_array(),
	    .why = why != NULL ? why : &own};
	int rc = open_side(c.from_driver, dir, &c.from, c.why);

	if (rc == OK)
		rc = open_side(c.to_driver, place, &c.to, c.why);
	if (rc == OK)
		rc = c.from_driver->begin(c.from, false);
	if (rc == OK)
		rc = c.to_driver->begin(c.to, true);
	if (rc == OK)
		rc = copy_all(&c, tell, ctx);
	if (rc == OK)
		rc = c.to_driver->commit(c.to);
	else if (c.to != NULL)
		c.to_driver->rollback(c.to);
	if (c.from != NULL)
		c.from_driver->rollback(c.from);
	c.from_driver->close(&c.from);
	c.to_driver->close(&c.to);
	json_decref(c.kept);
	if (rc != OK && c.why->text[0] == '\0')
		why_set(c.why, rc, "%s", err_text(rc));
	return rc;
}
