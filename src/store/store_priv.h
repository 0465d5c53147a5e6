/* store/store_priv.h: what the files of this folder share. */
#pragma once
#include "store/driver.h"
#include <stdatomic.h>

#define STORE_MARK "store-url" /* in the data folder */
#define TX_MAGIC 0x54584e21u

struct tx {
	unsigned magic;
	struct store *st;
	const struct driver *driver;
	struct db *db;
	bool write;
	int failed; /* first error of a statement: the transaction can only be rolled back */
};

/* Whether the files are still there (watch.c). By one thread, but for `gone` and, once that is set, `reason`. */
struct store_watch {
	const struct driver *driver; /* constant */
	const char *place; /* the store's */
	struct place_mark mark;
	char reason[200];
	atomic_bool gone; /* for good */
	bool back; /* it was told that the folder is there again */
};
struct store_watch *store_watch_of(struct store *st);

/* store_open with another driver, for tests of the seam. */
int store_open_with(const struct driver *driver, const char *place, struct store **ret, struct why *why) MUST_USE;
/* Commits the transaction that is open on db, which makes `transactions` of ours durable: the driver's commit, its
 * upkeep, the metrics and the test hook. After an error nothing is open. */
int store_commit_db(struct store *st, struct db *db, unsigned transactions) MUST_USE;

/* Closes a reading connection that nobody uses, if there is one. Any thread, no lock held. */
void store_close_idle(struct store *st);

/* Group commit over the one writing connection (one_writer.c). begin blocks until it is this thread's turn; the same
 * thread ends it by exactly one of commit and rollback. */
struct one_writer;
/* Takes db; st is borrowed. */
struct one_writer *one_writer_new(const struct driver *driver, struct store *st, struct db *db);
void one_writer_free(struct one_writer **w); /* NULL is fine */
int one_writer_begin(struct one_writer *w, struct db **ret) MUST_USE;
int one_writer_commit(struct one_writer *w) MUST_USE;
/* failed: the statement's error that led here, or OK. */
void one_writer_rollback(struct one_writer *w, int failed);
