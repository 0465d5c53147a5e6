/* Statements and rows inside a transaction. The first error of a statement sticks to its transaction, which can only be
 * rolled back then. */
#include "base/mem.h"
#include "store/store_priv.h"

struct query {
	struct tx *tx;
	struct db_stmt *stmt;
};

static int start_statement(
    struct tx *tx, bool borrow, const char *sql, const char *types, va_list ap, struct db_stmt **ret)
{
	struct db_stmt *s;
	int rc;

	OBJ_CHECK(tx, TX_MAGIC);
	if (tx->failed != OK)
		return tx->failed;
	rc = tx->driver->prepare(tx->db, sql, &s);
	if (rc == OK) {
		rc = tx->driver->bind(s, borrow, types, ap);
		if (rc != OK)
			tx->driver->finish(&s);
	}
	if (rc != OK)
		tx->failed = rc;
	else
		*ret = s;
	return rc;
}

static int run_to_end(struct tx *tx, struct db_stmt *s, int64_t *ret_changed)
{
	int rc;

	while ((rc = tx->driver->step(s)) == OK)
		continue;
	tx->driver->finish(&s);
	if (rc != ERR_EMPTY)
		return tx->failed = rc;
	if (ret_changed != NULL)
		*ret_changed = tx->driver->changed(tx->db);
	return OK;
}

int tx_exec(struct tx *tx, const char *sql, const char *types, ...)
{
	struct db_stmt *s = NULL;
	va_list ap;
	int rc;

	va_start(ap, types);
	rc = start_statement(tx, true, sql, types, ap, &s);
	va_end(ap);
	if (rc != OK || tx->driver->later == NULL)
		return rc != OK ? rc : run_to_end(tx, s, NULL);
	rc = tx->driver->later(s);
	tx->driver->finish(&s);
	return tx->failed = rc;
}

int tx_change(struct tx *tx, int64_t *ret_changed, const char *sql, const char *types, ...)
{
	struct db_stmt *s = NULL;
	va_list ap;
	int rc;

	va_start(ap, types);
	rc = start_statement(tx, true, sql, types, ap, &s);
	va_end(ap);
	return rc != OK ? rc : run_to_end(tx, s, ret_changed);
}

static int query_open(struct tx *tx, struct query **ret, const char *sql, const char *types, va_list ap)
{
	struct db_stmt *s = NULL;
	int rc = start_statement(tx, false, sql, types, ap, &s);
	struct query *q;

	if (rc != OK)
		return rc;
	q = NEW(struct query);
	q->tx = tx;
	q->stmt = s;
	*ret = q;
	return OK;
}

int tx_query(struct tx *tx, struct query **ret, const char *sql, const char *types, ...)
{
	va_list ap;
	int rc;

	va_start(ap, types);
	rc = query_open(tx, ret, sql, types, ap);
	va_end(ap);
	return rc;
}

int query_next(struct query *q)
{
	int rc = q->tx->driver->step(q->stmt);

	if (rc != OK && rc != ERR_EMPTY)
		q->tx->failed = rc;
	return rc;
}

void query_free(struct query **qp)
{
	struct query *q = TAKE(*qp);

	if (q == NULL)
		return;
	q->tx->driver->finish(&q->stmt);
	free(q);
}

const char *query_text(struct query *q, int column)
{
	return q->tx->driver->text(q->stmt, column);
}

const char *query_str(struct query *q, int column)
{
	const char *s = query_text(q, column);

	return s != NULL ? s : "";
}

int64_t query_int(struct query *q, int column)
{
	return q->tx->driver->integer(q->stmt, column);
}

bool query_is_null(struct query *q, int column)
{
	return q->tx->driver->is_null(q->stmt, column);
}

int tx_query_int(struct tx *tx, int64_t *ret, const char *sql, const char *types, ...)
{
	AUTO(query) q = NULL;
	va_list ap;
	int rc;

	va_start(ap, types);
	rc = query_open(tx, &q, sql, types, ap);
	va_end(ap);
	if (rc == OK)
		rc = query_next(q);
	if (rc == OK)
		*ret = query_int(q, 0);
	return rc;
}

int tx_query_text(struct tx *tx, char **ret, const char *sql, const char *types, ...)
{
	AUTO(query) q = NULL;
	va_list ap;
	int rc;

	va_start(ap, types);
	rc = query_open(tx, &q, sql, types, ap);
	va_end(ap);
	if (rc == OK)
		rc = query_next(q);
	if (rc == OK)
		*ret = str_dup(query_text(q, 0));
	return rc;
}
