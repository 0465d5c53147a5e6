/* audit/audit.h: the audit log: who changed what. A record is written in the transaction of the change it tells of, so
 * neither is without the other. Records of a team are a chain: each has the hash of the one before, so that one that is
 * changed, taken out or put in later shows (audit_check). Nothing secret is in it: no keys, values, prompts, code.
 * Thread: any, inside the caller's transaction. */
#pragma once
#include "base/json.h"
#include "store/store.h"

#define AUDIT_ADMIN_COMMAND "admin command" /* the actor of `bullpen admin` */
#define AUDIT_PROVIDER "OpenID provider" /* of what a sign-in changes besides */
#define AUDIT_DAYS_MIN 400
#define AUDIT_TYPES_MAX 20 /* of one question */

/* Who does it; borrowed. */
struct audit_by {
	int64_t team_id;
	const char *actor; /* "user:7", "sa:…", AUDIT_ADMIN_COMMAND, AUDIT_PROVIDER */
	const char *name; /* a person's e-mail address, else the key's name; NULL: none */
	const char *ip; /* NULL: not over the network */
};

/* `data` (taken) is an object; one that is too large becomes its hash. Store errors. */
int audit_write(struct tx *tx, const struct audit_by *by, const char *type, json_t *data) MUST_USE;
/* Whether `reader` (a browser's session or a key) reads the log for the first time in twelve hours: who tells her
 * anything writes that down first. */
int audit_is_new_reader(struct tx *tx, const char *reader, bool *ret) MUST_USE;
int audit_note_reader(struct tx *tx, const struct audit_by *by, const char *reader) MUST_USE;

struct audit_query {
	int64_t team_id;
	int64_t from_ms, until_ms; /* at >= from and < until */
	const char *const *types; /* NULL-terminated, at most AUDIT_TYPES_MAX; NULL: all */
	const char *search; /* in actor, name, address and data, small letters as large ones; NULL: anything */
	int64_t before_seq; /* INT64_MAX: from the newest */
	int64_t limit;
};
/* [{id, seq, timestamp, eventType, actor, actorName?, ipAddress?, data, prevHash, hash}], newest first. *ret_next: the
 * before_seq of the next page, 0 if there is none. */
int audit_page(struct tx *tx, const struct audit_query *q, json_t **ret, int64_t *ret_next) MUST_USE;
/* Calls `each` with every record, oldest first. `row` is borrowed. */
int audit_each(struct tx *tx, int64_t team_id, void (*each)(void *ctx, const json_t *row), void *ctx) MUST_USE;

struct audit_verdict {
	bool whole;
	int64_t records, seq; /* seq: of the last one; where the chain is broken, of the first one that is wrong */
	char hash[65]; /* of the last one: who keeps it elsewhere can tell later whether the log was made anew */
	struct why why; /* why it is not whole */
};
/* OK whatever the verdict is; store errors. */
int audit_check(struct tx *tx, int64_t team_id, struct audit_verdict *ret) MUST_USE;

/* Forgets the oldest records that are older than `before_ms`, at most `max`. The chain remembers where it begins now.
 */
int audit_forget(struct tx *tx, int64_t before_ms, int64_t max, int64_t *ret_n) MUST_USE;
