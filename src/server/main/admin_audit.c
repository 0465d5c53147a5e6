/* `bullpen admin audit`: the audit log as it is in the store, also while the server runs. */
#include "base/mem.h"
#include "server/main/admin_priv.h"
#include "server/main/commands.h"

static void print_line(void *ctx, const json_t *row)
{
	AUTO_STR text = json_text(row);

	IGNORE(puts(text));
}

/* One line of JSON, and a sentence for a person if it is not whole. */
static int print_verdict(const struct audit_verdict *v)
{
	AUTO_JSON o = json_object();

	json_put_bool(o, "whole", v->whole);
	json_put_int(o, "records", v->records);
	json_put_int(o, v->whole ? "lastSeq" : "brokenAt", v->seq);
	if (v->whole)
		json_put(o, "lastHash", v->hash);
	else
		json_put(o, "reason", v->why.text);
	print_line(NULL, o);
	if (!v->whole)
		fprintf(stderr, "error: the audit log is not whole: %s\n", v->why.text);
	return v->whole ? 0 : 1;
}

static int read_log(struct store *st, bool verify, struct audit_verdict *v)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(st, TX_READ, &tx);

	if (rc != OK)
		return rc;
	return verify ? audit_check(tx, THE_TEAM, v) : audit_each(tx, THE_TEAM, print_line, NULL);
}

int admin_audit(const char *data_dir, bool verify)
{
	struct audit_verdict v = {.whole = true};
	struct store *st = NULL;
	int rc = admin_open_store(data_dir, false, &st);

	if (rc != 0)
		return rc;
	rc = read_log(st, verify, &v);
	store_close(&st);
	if (rc != OK) {
		fprintf(stderr, "error: the audit log cannot be read: %s\n", err_text(rc));
		return 1;
	}
	rc = verify ? print_verdict(&v) : 0;
	/* A copy that is not whole is worse than none. */
	if (fflush(stdout) != 0 || ferror(stdout)) {
		fprintf(stderr, "error: the log cannot be printed\n");
		return 1;
	}
	return rc;
}
