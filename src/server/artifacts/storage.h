/* artifacts/storage.h: where the content of artifacts is. A key is a name that this server made (a UUID), nothing else.
 * Content comes in pieces, in order, over any number of connections and restarts; it can be read once it is finished.
 * Thread: any, for all functions; they block on the storage. */
#pragma once
#include "base/errors.h"
#include "base/id.h"

/* One writer of a key. */
struct storage_piece;
/* One reader. */
struct storage_file;

struct storage {
	const struct storage_kind *kind;
};

struct storage_kind {
	/* How many bytes have come; 0 for a key that nothing came of. */
	int (*received)(struct storage *s, const char *key, int64_t *ret) MUST_USE;
	/* To write from `offset` on, where the storage must stand. ERR_CONFLICT: it stands elsewhere; ERR_AGAIN:
	 * somebody else writes. */
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
	void (*free)(struct storage **s);
};

/* folder.c: files below `folder`, which is made. */
int storage_folder_new(const char *folder, struct storage **ret, struct why *why) MUST_USE;
