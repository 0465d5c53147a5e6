/* artifacts/storage.h: where the content of artifacts is. A key is a name that this server made (a UUID), nothing else.
 * Content comes in pieces, in order, over any number of connections and restarts; it can be read once it is finished.
 * Thread: any, for all functions; they block on the storage. */
#pragma once
#include "base/errors.h"
#include "base/id.h"
#include "base/json.h"

/* One writer of a key. */
struct storage_piece;
/* One reader. */
struct storage_file;

/* Whether what is stored under that key is needed. finished: it is whole; else an upload that began at `changed_ms`. */
typedef int storage_judge(void *ctx, const char *key, bool finished, int64_t changed_ms, bool *ret_needed);

struct storage {
	const struct storage_kind *kind;
};

struct storage_kind {
	/* A hint: that key was made just now, so nobody has to look what came of it. NULL: looking costs nothing. */
	void (*announce)(struct storage *s, const char *key);
	/* How many bytes have come; 0 for a key that nothing came of. */
	int (*received)(struct storage *s, const char *key, int64_t *ret) MUST_USE;
	/* To write from `offset` on, where the storage must stand. ERR_CONFLICT: it stands elsewhere; ERR_AGAIN:
	 * somebody else writes; ERR_FULL: so many others are written that there is no room for it now. */
	int (*begin)(struct storage *s, const char *key, int64_t offset, struct storage_piece **ret) MUST_USE;
	/* ERR_NO_SPACE and others: a part of it may have been written; `received` says how much. */
	int (*write)(struct storage_piece *p, const void *bytes, size_t len) MUST_USE;
	/* The content is complete: checked, durable, and can be opened from here on. Twice is fine. ERR_INVALID: it is
	 * not `size` bytes with that SHA-256. */
	int (*finish)(struct storage_piece *p, int64_t size, const char sha256[SHA256_HEX_LEN]) MUST_USE;
	/* What was written stays. NULL is fine. */
	void (*end)(struct storage_piece **p);

	/* A finished one. ERR_NOT_FOUND. */
	int (*open)(struct storage *s, const char *key, struct storage_file **ret) MUST_USE;
	/* Up to `len` bytes from `offset` on; at least one, ERR_EMPTY at the end. */
	int (*read)(struct storage_file *f, int64_t offset, void *buf, size_t len, size_t *ret_len) MUST_USE;
	void (*close)(struct storage_file **f); /* NULL is fine */

	/* Finished or not; OK if there is nothing. Readers and writers of it go on with what they have. */
	int (*forget)(struct storage *s, const char *key) MUST_USE;
	/* Asks about everything there is, and forgets what is not needed; a result of `judge` other than OK ends it.
	 * NULL: nothing can be there that no row knows. ERR_DENIED: it is not ours to sweep. With `why`. */
	int (*sweep)(struct storage *s, storage_judge *judge, void *ctx, struct why *why) MUST_USE;

	/* An address where clients fetch a finished one without this server, good for `seconds` from now on; malloc'ed.
	 * The answer there has that Content-Disposition and is nothing that a browser shows. NULL, or a NULL result:
	 * they come through this server. */
	char *(*link)(struct storage *s, const char *key, const char *disposition, int64_t now_ms, int64_t seconds);
	/* Where such addresses begin, "https://host"; borrowed. NULL, or a NULL result: there are none. */
	const char *(*origin)(struct storage *s);
	/* Does everything once that this server does, and says what is wrong. NULL: nothing can be wrong that making it
	 * did not say. */
	int (*check)(struct storage *s, struct why *why) MUST_USE;
	/* Where it is, for people: "'bucket' below 'prefix' at host"; malloc'ed. NULL with `check`. */
	char *(*place)(struct storage *s);
	/* The server stops: what waits ends with ERR_CANCELLED. NULL: nothing waits. */
	void (*stop)(struct storage *s);
	void (*free)(struct storage **s);
	int64_t max_bytes; /* of one content; 0: any */
};

/* folder.c: files below `folder`, which is made. */
int storage_folder_new(const char *folder, struct storage **ret, struct why *why) MUST_USE;
/* s3.c: objects of a bucket. `settings`: the table [s3], borrowed; `installation`: what is left there so that no other
 * one sweeps, "": nothing. Nothing is asked of the server yet. Failures of the functions are ERR_NET, and lines of the
 * log. ERR_INVALID with `why`. */
int storage_s3_new(const json_t *settings, const char *installation, struct storage **ret, struct why *why) MUST_USE;
